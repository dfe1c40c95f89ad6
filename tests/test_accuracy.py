"""benchmarks.accuracy: which runs it draws, what it draws of them, and that names hide nothing of ours."""

import itertools
import json

import pytest

from benchmarks import accuracy
from benchmarks.accuracy import Network
from cnn.architecture import count_parameters
from cnn.config import CnnConfig
from cnn.zoo import ZOO
from harness.workdir import write_config

DOCS = accuracy.TABLE
LAYERS = "conv 10 3x3, global average pool"
SUMMARY = {"parameters": 90, "seeds": [{"final_test_accuracy": 0.994}, {"final_test_accuracy": 0.996}]}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """A table of one network, and a picture that is not there yet."""
    monkeypatch.setattr(accuracy, "PICTURE", tmp_path / "accuracy.png")
    monkeypatch.setattr(accuracy, "TABLE", tmp_path / "accuracy.csv")
    accuracy.TABLE.write_text("network,parameters,test_accuracy\nold,80,0.98\nold,80,0.99\n")


def run(folder, summary=SUMMARY, **flags):
    """A folder as a run with five seeds leaves it, as far as the picture reads it."""
    folder.mkdir()
    write_config(folder, "mnist", CnnConfig(**{"num_seeds": 5, **flags}), device="none")
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return str(folder)


def test_a_run_is_read_as_its_summary_has_it(tmp_path):
    zoo = accuracy.read(run(tmp_path / "a", model="tiny_5k"))
    assert zoo == Network("tiny_5k", 90, (0.994, 0.996))
    assert accuracy.read(run(tmp_path / "mine", layers=LAYERS)) == zoo._replace(name="mine")
    assert zoo.mean == pytest.approx(0.995)
    three = zoo._replace(accuracies=(0.994, 0.996, 0.995))
    half = 4.302653 * 0.001 / 3**0.5  # Student's t for two degrees of freedom, times the standard error
    assert three.interval == pytest.approx((0.995 - half, 0.995 + half))


def test_a_run_takes_the_place_of_its_networks_rows(tmp_path, monkeypatch):
    for folder, seeds in (("first", [0.97, 0.98]), ("second", [0.994, 0.996])):
        summary = SUMMARY | {"seeds": [{"final_test_accuracy": each} for each in seeds]}
        folder = run(tmp_path / folder, summary, model="tiny_5k")
        monkeypatch.setattr("sys.argv", ["accuracy", folder])
        accuracy.main()
    assert accuracy.TABLE.read_text().splitlines() == [
        "network,parameters,test_accuracy",
        "tiny_5k,90,0.994",
        "tiny_5k,90,0.996",
        "old,80,0.98",
        "old,80,0.99",
    ]
    assert accuracy.PICTURE.read_bytes().startswith(b"\x89PNG")


def test_the_table_in_docs_is_of_the_zoo(monkeypatch):
    monkeypatch.setattr(accuracy, "TABLE", DOCS)
    for network in accuracy.read_table().values():
        assert count_parameters(ZOO[network.name].architecture) == network.parameters
        assert len(network.accuracies) >= 5


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        ("is not finished: go on with --resume", {"summary": None}),
        ("is damaged: --resume writes it anew", {"summary": {}}),
        ("is of a published network", {"model": "bn_4k"}),
        ("is of a published network", {"layers": LAYERS, "reported": "0.99,3,0.98"}),
        ("holds a run of 2 learning rates", {"learning_rate": (0.01, 0.02)}),
        ("was trained with --dataset=fashion_mnist", {"dataset": "fashion_mnist"}),
        ("was trained with --validation_size=5000", {"validation_size": 5000}),
        ("has no interval by so few seeds", {"num_seeds": 2}),
        ("holds no run", None),
    ],
)
def test_another_run_is_refused_in_one_line(words, flags, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    if flags is not None:
        run(folder, **flags)
    monkeypatch.setattr("sys.argv", ["accuracy", str(folder)])
    with pytest.raises(SystemExit, match="2"):
        accuracy.main()
    error = capsys.readouterr().err
    assert error.startswith(str(folder))
    assert words in error
    assert error.count("\n") == 1
    assert not accuracy.PICTURE.exists()


def test_everything_is_in_the_picture_and_no_name_hides_another():
    sizes, means = (600, 2_400, 9_900, 19_975, 19_978, 19_990), (0.990, 0.994, 0.996, 0.996, 0.9961, 0.9967)
    networks = [
        Network(f"network_{size}", size, (mean - 5e-5, mean + 5e-5))
        for size, mean in zip(sizes, means, strict=True)
    ]
    (axes,) = accuracy.picture(networks).axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert axes.texts[0].get_text() == "network_600  99.00%"
    assert [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])] == []
    ours = axes.transData.transform([[each.parameters, end] for each in networks for end in each.interval])
    assert all(not box.contains(*point) for box in boxes for point in ours)
    points = axes.transData.transform(axes.collections[0].get_offsets())
    assert len(points) == 111
    assert all(axes.bbox.contains(*point) for point in [*points, *ours, *(box.min for box in boxes)])
