"""--profile_steps leaves a trace of the first steps, and changes nothing in what is trained."""

import csv
import gzip
import json

import pytest

import launch
from tests.cnn.prepare import LAYERS


def trained(flags, folder, *more):
    """The rows of metrics.csv but for the times."""
    assert launch.main(["launch.py", "--task=mnist", *flags, f"--workdir={folder}", *more]) == 0
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: row[name] for name in row if name != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_the_first_steps_are_traced_and_the_training_is_the_same(small, tmp_path, capsys):
    flags = [*small, f"--layers={LAYERS}", "--recipe=plain_4k", "--epochs=1", "--batch_size=64"]
    rows = trained(flags, tmp_path / "traced", "--profile_steps=3")
    folder = tmp_path / "traced" / "profile"
    assert f"a trace is in {folder}" in capsys.readouterr().out
    (file,) = folder.rglob("perfetto_trace.json.gz")
    assert list(file.parent.glob("*.xplane.pb")), "what TensorBoard reads"
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    updates = [event for event in events if event.get("name") == "PjitFunction(jit(step))"]
    assert updates
    assert len(updates) % 3 == 0
    assert "profile_steps" not in (tmp_path / "traced" / "flags.txt").read_text()

    assert trained(flags, tmp_path / "not") == rows
    assert not (tmp_path / "not" / "profile").exists()
