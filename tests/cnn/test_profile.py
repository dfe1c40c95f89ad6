"""--profile_steps leaves a trace of the first steps, and changes nothing in what is trained."""

import csv
import gzip
import json

import pytest

import launch
from cnn import data, fit
from cnn.zoo import Entry
from tests.cnn.prepare import LAYERS


@pytest.mark.slow
def test_the_first_steps_are_traced_and_the_training_is_the_same(small, tmp_path, capsys):
    flags = [*small, f"--layers={LAYERS}", "--recipe=plain_4k", "--epochs=1", "--batch_size=64"]
    assert launch.main(["", "--task=mnist", *flags, f"--workdir={tmp_path}", "--profile_steps=3"]) == 0
    folder = tmp_path / "profile"
    assert f"a trace is in {folder}" in capsys.readouterr().out
    (file,) = folder.rglob("perfetto_trace.json.gz")
    assert list(file.parent.glob("*.xplane.pb")), "what TensorBoard reads"
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    updates = [event for event in events if event.get("name") == "PjitFunction(jit(_update))"]
    assert updates
    assert len(updates) % 3 == 0
    assert "profile_steps" not in (tmp_path / "flags.txt").read_text()

    _, config = launch.parse(["", "--task=mnist", *flags])
    (untraced,) = fit(Entry(LAYERS, config.resolved_recipe), data.load(config.dataset)).history
    with (tmp_path / "metrics.csv").open(newline="") as file:
        (traced,) = csv.DictReader(file)
    for name in ("train_loss", "test_loss"):
        assert float(traced[name]) == untraced[name]
