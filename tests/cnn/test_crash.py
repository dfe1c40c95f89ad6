"""A short version of python -m tests.crash: two kills where it hurts most."""

import sys

import pytest

from tests import crash


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_goes_on_as_if_nothing_had_happened(small, tmp_path):
    """Batch norm, an average of the weights, a distortion that fades, one cycle of the rate, two seeds."""
    flags = [*small, *crash.FLAGS["2 seeds"]]
    crash.undisturbed(flags, tmp_path / "undisturbed")
    moments = [
        crash.Moment("checkpoint", 1, 0.01),
        crash.Moment("file", 2, 0),
    ]
    kills = [*crash.disturbed(flags, tmp_path / "run", iter(moments))]
    assert len(kills) == 2
    assert crash.differences(tmp_path / "run", tmp_path / "undisturbed") == []
