import struct

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from cnn.events import write_events
from harness.workdir import save_figure

HISTORY = [
    {"epoch": epoch, "test_loss": 1 / epoch, "test_accuracy": 1 - 0.3 / epoch, "seconds": 2.0}
    for epoch in (1, 2, 3)
]


def read(file):
    """The events of a file: records of length (8 bytes), its sum (4), content, its sum (4)."""
    content, place = file.read_bytes(), 0
    while place < len(content):
        (size,) = struct.unpack_from("<Q", content, place)
        yield Event.FromString(content[place + 12 : place + 12 + size])
        place += 12 + size + 4


def events(workdir):
    """The scalars by (tag, step) and the images by tag of the one event file; each once."""
    (file,) = (workdir / "tensorboard").iterdir()
    scalars, images = {}, {}
    for event in read(file):
        for value in event.summary.value:
            key = (value.tag, event.step)
            assert key not in scalars
            if value.HasField("image"):
                images[value.tag] = value.image
            else:
                scalars[key] = value.simple_value
    return scalars, images


def test_each_epoch_is_there_once_however_often_it_is_written(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "events.out.tfevents.1.elsewhere").write_bytes(b"an earlier run's")
    for epochs in (1, 2, 2, 3):
        write_events(tmp_path, HISTORY[:epochs])
    scalars, images = events(tmp_path)
    assert set(scalars) == {
        (name, row["epoch"]) for row in HISTORY for name in ("test_loss", "test_accuracy", "seconds")
    }
    for row in HISTORY:
        for name in ("test_loss", "test_accuracy"):
            assert scalars[name, row["epoch"]] == np.float32(row[name])
    assert images == {}


def test_epochs_are_as_far_apart_as_they_were(tmp_path):
    write_events(tmp_path, HISTORY)
    (file,) = (tmp_path / "tensorboard").iterdir()
    times = {event.step: event.wall_time for event in read(file) if event.summary.value}
    assert times[2] - times[1] == times[3] - times[2] == 2


def test_figures_become_images(tmp_path):
    figure = Figure(figsize=(2, 1), facecolor="red")
    save_figure(tmp_path, "curves", lambda: figure)
    write_events(tmp_path, HISTORY)
    _, images = events(tmp_path)
    (tmp_path / "read.png").write_bytes(images["curves"].encoded_image_string)
    pixels = np.asarray(Image.open(tmp_path / "read.png"))
    assert pixels.shape == (200, 400, 3)
    assert pixels[100, 200].tolist() == [255, 0, 0]


def test_of_several_runs_each_has_a_folder_without_figures(tmp_path):
    save_figure(tmp_path, "curves", lambda: Figure(figsize=(2, 1)))
    for rate in ("learning_rate_0.1", "learning_rate_0.2"):
        write_events(tmp_path, HISTORY, rate)
    assert {folder.name for folder in (tmp_path / "tensorboard").iterdir()} == {
        "learning_rate_0.1",
        "learning_rate_0.2",
    }
    (file,) = (tmp_path / "tensorboard" / "learning_rate_0.1").iterdir()
    tags = {value.tag for event in read(file) for value in event.summary.value}
    assert tags == {"test_loss", "test_accuracy", "seconds"}
