"""A drawing becomes an image as MNIST's images were made: MNIST itself says how."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backprop.config import BackpropConfig
from cnn import data
from cnn.config import CnnConfig
from demo.trained import as_mnist, load
from harness.errors import UserError
from harness.workdir import write_config

IMAGES = data.load("mnist", None).test.images[:1000, :, :, 0]


def test_mnists_own_images_stay_as_they_are():
    assert all((as_mnist(image) == image).all() for image in IMAGES)


@given(
    index=st.integers(0, len(IMAGES) - 1),
    scale=st.integers(2, 8),
    top=st.integers(0, 50),
    left=st.integers(0, 50),
)
def test_size_and_place_of_a_drawing_do_not_matter(index, scale, top, left):
    image = IMAGES[index]
    paper = np.zeros((300, 300), np.uint8)
    paper[top : top + 28 * scale, left : left + 28 * scale] = np.kron(
        image, np.ones((scale, scale), np.uint8)
    )
    shifts = [np.roll(image, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    smallest = min(np.abs(as_mnist(paper).astype(int) - shifted).mean() for shifted in shifts)
    assert smallest < 6, "grey values differ by more than the resampling blurs"


def test_proportions_are_kept():
    paper = np.zeros((300, 300), np.uint8)
    paper[20:220, 100:140] = 255  # 200 high, 40 wide
    rows, columns = np.nonzero(as_mnist(paper))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 4)


def test_a_stroke_at_the_edge_and_a_dot():
    paper = np.zeros((300, 300), np.uint8)
    paper[:, :3] = 255
    assert as_mnist(paper).sum(axis=1).astype(bool).sum() == 20
    paper = np.zeros((300, 300), np.uint8)
    paper[299, 299] = 1
    assert as_mnist(paper)[4:24, 4:24].all()


def test_ink_far_from_its_centre_of_mass_stays_on_the_image():
    paper = np.zeros((200, 200), np.uint8)
    paper[:40] = 255
    paper[:, 99:101] = 255  # a T: the mass is in its bar
    image = as_mnist(paper)
    assert (np.nonzero(image.any(axis=1))[0][[0, -1]] == [8, 27]).all()


def test_an_empty_paper_gives_an_empty_image():
    assert not as_mnist(np.zeros((280, 280), np.uint8)).any()


@pytest.mark.parametrize("made", ["nothing", "another task's run", "no checkpoint"])
def test_a_folder_without_a_trained_network_is_named(tmp_path, made):
    if made == "another task's run":
        write_config(tmp_path, "backprop", BackpropConfig(), device="CPU")
    if made == "no checkpoint":
        write_config(tmp_path, "mnist", CnnConfig(model="plain_4k"), device="CPU")
    message = {
        "nothing": r"holds no run \(no config.json\): name the folder",
        "no checkpoint": "no finished epoch yet",
    }.get(made, "--task=backprop")
    with pytest.raises(UserError, match=message) as caught:
        load(str(tmp_path))
    assert "\n" not in str(caught.value)
    assert ("--resume" in str(caught.value)) == (made == "no checkpoint"), "what goes on is the training"


def test_of_a_sweep_the_page_names_the_learning_rate_as_the_report_does_and_the_seed(two_rates):
    network = load(str(two_rates))
    assert (network.name, network.seeds) == ("custom at learning rate 0.02, seed 0", 2)
    assert "custom at learning rate 0.02: " in (two_rates / "report.html").read_text()
