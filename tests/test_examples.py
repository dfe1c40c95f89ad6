"""The notebook under examples/, run top to bottom as it stands, on fewer images and a smaller network."""

import json
from pathlib import Path

import numpy as np
import pytest

import cnn
from cnn import data, loop, train, zoo
from cnn.recipe import Recipe
from cnn.results import state_of

NOTEBOOK = json.loads((Path(__file__).parents[1] / "examples" / "training.ipynb").read_text())
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
SMALL = zoo.Entry(
    "conv 4 5x5 stride 4, batch norm, ReLU, conv 10 3x3, global average pool",
    Recipe(epochs=2, batch_size=32, learning_rate=0.1),
    note="",
)


@pytest.fixture
def few(monkeypatch):
    """108 training images, three batches and a smaller one; 50 test images; a network for them."""
    whole = data.load("mnist")
    train_images, test_images = (
        data.Examples(*(array[:count] for array in split))
        for split, count in ((whole.train, 108), (whole.test, 50))
    )
    cut = whole._replace(train=train_images, test=test_images)
    monkeypatch.setattr(data, "load", lambda name: cut)
    monkeypatch.setitem(zoo.ZOO, "bn_4k", SMALL)
    return cut


@pytest.mark.slow
def test_the_notebook_runs_and_its_loop_trains_what_fit_trains(few, capsys):
    names = {}
    for cell in CELLS:
        exec(cell, names)
    assert sum(line.strip() != "" for cell in CELLS for line in cell.splitlines()) <= 25
    result, state, config = names["result"], names["state"], names["config"]
    assert [(row["seed"], row["epoch"]) for row in result.history] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert int(state.step) == 2 * 4 == result.state.step[0]
    assert int(state.metrics.seen) == config.images == 108
    # Two programs, eight steps: rounding of 1e-7 each, which a step may multiply by a few.
    for ours, theirs in zip(
        (state.params["Conv_0"]["kernel"], state.batch_stats["Normalization_0"]["var"]),
        (result.state.params["Conv_0"]["kernel"][0], result.state.batch_stats["Normalization_0"]["var"][0]),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    assert capsys.readouterr().out.count("test accuracy") == 2


def test_fit_holds_out_what_it_is_asked_to(few):
    result = cnn.fit(SMALL, few, validation_size=40)
    assert len(result.history) == 2
    last = result.history[-1]
    config, splits = loop.configure(SMALL.architecture, SMALL.recipe, few, validation_size=40)
    assert (config.images, len(splits["validation"].labels)) == (68, 40)
    evaluated = train.evaluate(state_of(result, 0), splits["validation"], config=config)
    assert float(evaluated.loss) == pytest.approx(last["validation_loss"], rel=1e-5)


def test_the_package_has_no_other_name():
    with pytest.raises(AttributeError, match="has no attribute 'fits'"):
        cnn.fits  # noqa: B018
