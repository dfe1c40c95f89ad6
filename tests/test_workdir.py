import json
import os
import re
from dataclasses import dataclass

import pytest

import workdir
from errors import UserError


@dataclass(frozen=True)
class Flags:
    lrs: tuple[float, ...] = (0.1, 0.2)
    epochs: int = 3


def test_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = workdir.open_workdir("a/b", "mnist")
    assert folder.is_absolute()
    assert list(folder.iterdir()) == []
    assert re.fullmatch(r"mnist-\d{8}-\d{6}", workdir.open_workdir(None, "mnist").name)


@pytest.mark.parametrize("path", ["/dev/null/run", "/proc/run", "/sys/run", "", "  "])
def test_a_folder_that_cannot_be_written_is_refused(path):
    with pytest.raises(UserError, match=r"--workdir.*(cannot write there|empty)"):
        workdir.open_workdir(path, "mnist")


def test_flags_come_back_as_they_were(tmp_path):
    workdir.write_config(tmp_path, "backprop", Flags(), device="a device", extra=1)
    assert workdir.read_flags(str(tmp_path), "backprop") == {"lrs": (0.1, 0.2), "epochs": 3}
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["device"] == "a device"
    assert config["extra"] == 1
    assert {"python", "jax", "flax"} <= set(config["versions"])
    with pytest.raises(UserError, match="holds a run of --task=backprop, not of --task=mnist"):
        workdir.read_flags(str(tmp_path), "mnist")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"task": "mnist", "flags": 3}', b"\xff\xfe"])
def test_a_damaged_config_is_named(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config.json cannot be read"):
        workdir.read_flags(str(tmp_path), "mnist")


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "summary.json"
    workdir.write_bytes(file, b"first")
    assert file.stat().st_mode & 0o777 == 0o644

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        workdir.write_bytes(file, b"second")
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]


def test_a_number_that_is_not_finite_is_not_written_as_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        workdir.write_json(tmp_path / "summary.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_floats_read_back_as_they_were(tmp_path):
    workdir.write_csv(tmp_path / "t.csv", ["x"], [[0.1 + 0.2], [1e-300], [2]])
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == "x"
    assert [float(line) for line in lines[1:]] == [0.1 + 0.2, 1e-300, 2]
