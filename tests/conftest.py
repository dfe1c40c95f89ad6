"""Shapes and types in signatures are checked while the tests run."""

import os

from jaxtyping import install_import_hook

install_import_hook(["backprop", "cnn", "demo.trained", "demo.run_tab"], "beartype.beartype")

from hypothesis import settings  # noqa: E402

settings.register_profile("project", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("project")
