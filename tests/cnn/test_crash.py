"""A short version of python -m tests.crash: two kills where it hurts most, and one anywhere."""

import sys

import pytest

from tests import crash


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path):
    flags = [*crash.prepare_data(tmp_path / "data"), *crash.FLAGS["bn_4k, 2 seeds"]]
    crash.undisturbed(flags, tmp_path / "reference")
    moments = [
        crash.Moment("checkpoint", 1, 0.01),
        crash.Moment("file", 2, 0),
        crash.Moment("checkpoint", 1, 0.05),
    ]
    kills = [*crash.disturbed(flags, tmp_path / "run", iter(moments))]
    assert len(kills) == 3
    assert crash.differences(tmp_path / "run", tmp_path / "reference") == []
