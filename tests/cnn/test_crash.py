"""A short version of python -m tests.crash: two kills where it hurts most."""

import sys

import pytest

from tests import crash


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_goes_on_as_if_nothing_had_happened(small, two_seeds, tmp_path):
    """Batch norm, an average of the weights, a distortion that fades, one cycle of the rate, two seeds."""
    flags = [*small, *crash.FLAGS["2 seeds"]]
    moments = [
        crash.Moment("checkpoint", 1, 0.01),
        crash.Moment("file", 2, 0),
    ]
    kills = [*crash.disturbed(flags, tmp_path / "run", iter(moments))]
    assert len(kills) == 2
    assert crash.differences(tmp_path / "run", two_seeds) == []
