"""Is a difference more than chance? The tests themselves, and the real command on real runs."""

import dataclasses
import shutil
from math import comb
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn.compare import significance
from cnn.config import CnnConfig
from harness.workdir import read_flags, write_config
from launch import main
from tests.cnn.prepare import LAYERS, some_of_mnist


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 20))
def test_mcnemar_is_the_exact_binomial_test(first, second, both):
    """Twice the probability of the smaller tail of a fair coin, as McNemar's exact test is defined."""
    rows = [(True, False)] * first + [(False, True)] * second + [(True, True)] * both + [(False, False)]
    of_first, of_second = np.array(rows).T
    result = significance.over_images(of_first, of_second)
    count = first + second
    tail = sum(comb(count, wins) for wins in range(min(first, second) + 1)) / 2**count
    assert (result.first, result.second) == (first, second)
    assert result.p == pytest.approx(min(1, 2 * tail))


def test_the_paired_t_test_on_students_own_figures():
    """Hours of sleep gained with two drugs, Student 1908: t = 4.06 with 9 degrees of freedom, p = 0.0028."""
    first = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    second = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    result = significance.over_seeds(first, second)
    assert result.mean == pytest.approx(1.58)
    assert result.p == pytest.approx(0.00283, abs=1e-5)
    assert result.interval == pytest.approx((0.70, 2.46), abs=0.005)


def test_equal_networks_are_called_different_one_time_in_twenty():
    random = np.random.default_rng(0)
    accuracies = (0.996 + 3e-4 * random.standard_normal((2000, 2, 8))).tolist()
    p = [significance.over_seeds(*of_two).p for of_two in accuracies]
    assert 0.035 < np.mean(np.array(p) < significance.LEVEL) < 0.065


def test_one_seed_has_no_test_over_seeds_and_equal_differences_are_no_division_by_zero():
    assert significance.over_seeds([0.99], [0.98]) is None
    assert significance.over_seeds([0.5, 0.75], [0.5, 0.75]).p == 1
    assert significance.over_seeds([0.5, 0.75], [0.25, 0.5]).p == 0


@pytest.fixture
def compare(capsys):
    """A function of two folders: the exit code, the output and the errors of --task=compare."""

    def in_this_process(workdir, against):
        flags = ["--task=compare", f"--workdir={workdir}"] + [f"--against={against}"] * (against is not None)
        capsys.readouterr()
        code = main(["launch.py", *flags])
        return code, *capsys.readouterr()

    return in_this_process


@pytest.fixture(scope="session")
def runs(once, small):
    """Folders of three runs on a little of MNIST: a good one, one hardly trained, one of another seed."""

    def fill(folder):
        hardly = ["--learning_rate=0.001", "--epochs=1"]
        each = {
            "good": ["--learning_rate=0.1", "--epochs=3", "--num_seeds=2"],
            "poor": [*hardly, "--num_seeds=3"],
            "other": [*hardly, "--seed=7"],
        }
        for name, flags in each.items():
            of_run = [*small, f"--layers={LAYERS}", "--recipe=plain_4k", *flags, f"--workdir={folder / name}"]
            with mock.patch("cnn.results.save_figure"):  # nobody looks at them, and they take the longest
                assert main(["launch.py", "--task=mnist", *of_run]) == 0

    return once("compared", fill)


def test_two_runs_are_compared_over_the_seeds_they_share(runs, compare):
    code, report, errors = compare(runs / "good", runs / "poor")
    assert (code, errors) == (0, "")
    assert "paired t-test over 2 seeds" in report
    assert "significant" in report
    rows = [line.split() for line in report.splitlines()]
    assert [row[0] for row in rows if row and row[0].isdigit()] == ["0", "1"]
    code, again, _ = compare(runs / "poor", runs / "good")
    assert code == 0
    difference = next(line.split()[1] for line in report.splitlines() if line.startswith("difference"))
    opposite = next(line.split()[1] for line in again.splitlines() if line.startswith("difference"))
    assert float(difference.rstrip("%,")) == -float(opposite.rstrip("%,")) > 5


def test_a_run_equals_itself(runs, compare):
    code, report, errors = compare(runs / "other", runs / "other")
    assert (code, errors) == (0, "")
    assert "no significant difference at 5 %, by McNemar's test on the images of one seed" in report


def copy_of(run, folder, **flags):
    """A run in another folder, as if it had been started with other flags."""
    shutil.copytree(run, folder)
    config = CnnConfig(**read_flags(str(run), "mnist") | flags)
    write_config(folder, "mnist", config, device="a device")


def test_a_run_of_many_devices_and_processes_is_evaluated_by_this_one(runs, compare, tmp_path):
    elsewhere = {"num_devices": 64, "coordinator_address": "10.0.0.2:1", "num_processes": 2, "process_id": 0}
    copy_of(runs / "other", tmp_path / "copy", **elsewhere)
    code, report, errors = compare(runs / "other", tmp_path / "copy")
    assert (code, errors) == (0, "")
    assert "no significant difference" in report


def test_runs_tested_on_other_images_are_not_compared(runs, compare, tmp_path):
    some_of_mnist(tmp_path / "fewer.npz", (650, 200))
    copy_of(runs / "other", tmp_path / "copy", dataset=str(tmp_path / "fewer.npz"))
    code, _, said = compare(runs / "other", tmp_path / "copy")
    assert code == 2
    assert said.startswith("launch.py: --workdir=")
    assert "were tested on different images: compare runs of one data set" in said


def test_a_run_of_another_version_is_named(runs, compare, tmp_path):
    shutil.copytree(runs / "other", tmp_path / "copy")
    with_more = dataclasses.make_dataclass("Config", [*read_flags(str(runs / "other"), "mnist"), "colour"])
    flags = read_flags(str(runs / "other"), "mnist") | {"colour": "red"}
    write_config(tmp_path / "copy", "mnist", with_more(**flags), device="a device")
    code, _, said = compare(runs / "other", tmp_path / "copy")
    assert code == 2
    assert "does not fit this version" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("against", "message"),
    [
        (None, "--against is missing: name the folder of a run of --task=mnist"),
        ("none", "/none holds no run: name the folder of a run of --task=mnist"),
        ("other", "--workdir has the seeds 0, 1, --against has 7: train"),
    ],
)
def test_what_cannot_be_compared_is_said(runs, compare, against, message):
    code, _, said = compare(runs / "good", against and runs / against)
    assert code == 2
    assert message in said
    assert said.count("\n") == 1
