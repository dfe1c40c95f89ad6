import contextlib
import csv
import io
import json
import os
import shutil
import subprocess
from dataclasses import asdict

import jax
import jax.numpy as jnp
import openpyxl
import pytest

import launch
from backprop import task
from backprop.check import gradients
from backprop.config import BackpropConfig
from backprop.descent import COLUMNS, explore, settle
from backprop.figures import all_loss_curves, frontier_figure, loss_curve
from backprop.task import descend_from_start, run, start
from harness.errors import UserError
from harness.workdir import lock, write_config
from launch import parse

from .test_descent import spreadsheet
from .test_network import CASE, START


def launched(folder, *flags):
    """Exit code, output and errors of the command line, run within this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = launch.main(["launch.py", "--task=backprop", f"--workdir={folder}", *flags])
    return subprocess.CompletedProcess(flags, code, out.getvalue(), err.getvalue())


def rows(file):
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def finished(by_hand):
    return by_hand / "run", (by_hand / "output").read_text()


def test_a_run_leaves_all_its_files_and_no_others(finished):
    figures = ("loss_eta_0.5", "loss_eta_0.1", "loss_eta_200.0", "loss_all", "frontier")
    assert {file.name for file in finished[0].iterdir()} == {
        *(
            "config.json",
            "flags.txt",
            "summary.json",
            "gradients.csv",
            "trajectories.csv",
            "frontier.csv",
            "backprop.xlsx",
            "report.html",
            ".lock",
        ),
        *(f"{name}.{kind}" for name in figures for kind in ("png", "svg")),
    }


def test_gradients_csv(finished):
    table = rows(finished[0] / "gradients.csv")
    assert list(table[0])[:4] == ["weight", "by_hand", "autodiff", "finite_difference"]
    assert [row["weight"] for row in table] == ["w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8"]
    right = spreadsheet(0.1, START, CASE, 0)[0, -8:]
    for row, value in zip(table, right, strict=True):
        assert float(row["by_hand"]) == pytest.approx(value, rel=1e-12)
        assert float(row["autodiff"]) == pytest.approx(value, rel=1e-12)
        assert float(row["finite_difference"]) == pytest.approx(value, abs=1e-9)
        assert float(row["max_difference_finite_difference"]) == abs(
            float(row["finite_difference"]) - float(row["autodiff"])
        )


def test_trajectories_csv(finished):
    table = rows(finished[0] / "trajectories.csv")
    assert tuple(table[0]) == ("lr", "epoch", *COLUMNS)
    assert len(table) == 3 * 31
    for place, lr in enumerate((0.5, 0.1, 200.0)):
        right = spreadsheet(lr, START, CASE, 30)
        for epoch, row in enumerate(table[31 * place : 31 * (place + 1)]):
            assert (float(row["lr"]), int(row["epoch"])) == (lr, epoch)
            assert [float(row[name]) for name in COLUMNS] == pytest.approx(right[epoch], rel=0, abs=1e-12)


def test_frontier_csv(finished):
    table = rows(finished[0] / "frontier.csv")
    assert ",".join(table[0]) == "lr,final_loss,gradient_norm,last_rise,epochs_to_tolerance,outcome"
    assert len(table) == 4096
    assert float(table[0]["lr"]) == pytest.approx(1e-3)
    assert float(table[-1]["lr"]) == pytest.approx(1e4)
    assert table[0]["epochs_to_tolerance"] == ""
    right = spreadsheet(float(table[2000]["lr"]), START, CASE, 200)[-1]
    assert float(table[2000]["final_loss"]) == pytest.approx(right[COLUMNS.index("E_total")], rel=1e-9)


def test_summary_json(finished):
    folder, _ = finished
    summary = json.loads((folder / "summary.json").read_text())
    table = rows(folder / "frontier.csv")
    losses = [float(row["final_loss"]) for row in table]
    best = losses.index(min(losses))
    assert summary["frontier"]["best_rate"] == float(table[best]["lr"])
    assert summary["frontier"]["best_loss"] == losses[best]
    failed = [float(row["lr"]) for row in table[best + 1 :] if row["outcome"] in ("stalled", "oscillating")]
    assert summary["frontier"]["failing"] == len(failed) > 0
    assert summary["frontier"]["failing_from"] == failed[0]
    assert [e["document"] for e in summary["wrong_published_equations"]] == ["000", "002", "003"]
    assert summary["final_losses"]["0.5"] == pytest.approx(
        spreadsheet(0.5, START, CASE, 30)[-1, 22], rel=1e-12
    )
    assert [claim["holds"] for claim in summary["claims"]] == [True, False, True]
    assert summary["gradients"]["max_difference_by_hand_autodiff"] < 1e-16


def test_config_json(finished):
    config = json.loads((finished[0] / "config.json").read_text())
    assert config["task"] == "backprop"
    assert config["flags"]["lrs"] == [0.5, 0.1, 200.0]
    assert config["flags"]["frontier_rates"] == 4096
    _, again = parse(["", f"--flagfile={finished[0] / 'flags.txt'}"])
    assert json.loads(json.dumps(asdict(again))) == config["flags"] | {"workdir": None}


def test_the_spreadsheet_has_a_sheet_for_each_rate(finished):
    book = openpyxl.load_workbook(finished[0] / "backprop.xlsx", read_only=True)
    assert book.sheetnames == ["overview", "eta=0.5", "eta=0.1", "eta=200.0"]


def test_the_terminal_walks_through_the_update_and_settles_the_claims(finished):
    output = finished[1]
    for line in (
        "h1        = w1*i1 + w2*i2 = 0.15*0.05 + 0.2*0.1 = 0.0275",
        "dE/dw5    = dE1/da_o1 * da_o1/do1 * do1/dw5 = 0.596478 * 0.238662 * 0.506875 = 0.0721571",
        "dE/da_h1  = dE1/da_h1 + dE2/da_h1 = 0.0569427 + (-0.0418794) = 0.0150633",
        "w7        = w7 - 0.5*dE/dw7 = 0.5 - 0.5*(-0.0424553) = 0.521228",
        "document 002: WRONG  E2 = (t2 - a_o1)^2 / 2",
        "right  dE/dw8 = (a_o2-t2) * a_o2*(1-a_o2) * a_h2 (the label is wrong, not the formula)",
    ):
        assert line in output
    assert [f"Step {n}." in output for n in range(1, 7)] == [True] * 6
    assert output.count("WRONG") == 3
    assert str(finished[0]) in output.splitlines()[-1]


@pytest.mark.slow
def test_a_run_over_an_earlier_one_leaves_nothing_stale(tmp_path, capsys):
    small = {"workdir": str(tmp_path), "epochs": 2, "frontier_rates": 8, "frontier_epochs": 2}
    run(BackpropConfig(lrs=(0.1,), inputs=(107.0, 107.0), **small))
    summary = json.loads((tmp_path / "summary.json").read_text())
    lost = summary["gradients"]["beyond_precision"]
    assert "da_h1/dh1 is 5.44e-17" in lost
    assert lost in " ".join(capsys.readouterr().out.split())
    run(BackpropConfig(lrs=(0.3,), precision="float32", **small))
    assert sorted(file.name for file in tmp_path.glob("loss_eta_*")) == [
        "loss_eta_0.3.png",
        "loss_eta_0.3.svg",
    ]
    first = rows(tmp_path / "trajectories.csv")[0]
    assert (first["lr"], first["w1"], len(first["E_total"])) == ("0.3", "0.15", 10)  # float32: few digits
    sheet = openpyxl.load_workbook(tmp_path / "backprop.xlsx", data_only=True)["eta=0.3"]
    assert sheet["AC4"].value == pytest.approx(0.24251985734837728, rel=1e-14)  # float64 all the same
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "beyond_precision" not in summary["gradients"]
    assert summary["claims"][0]["holds"] is None, "one rate shows nothing"
    assert "float32" in capsys.readouterr().out


@pytest.mark.filterwarnings("error")
def test_a_start_without_error_stays_there():
    config = BackpropConfig(lrs=(0.1, 0.2), epochs=2, weights=(0.0,) * 8, targets=(0.5, 0.5))
    with jax.enable_x64(True):
        losses = descend_from_start(config)[:, :, COLUMNS.index("E_total")]
        frontier = explore(jnp.geomspace(0.1, 10.0, 8), *start(config), 2)
    claims = settle(frontier)
    assert (losses == 0).all()
    assert claims.outcomes == {"converged": 8}
    drawings = loss_curve(0.1, losses[0]), all_loss_curves(config.lrs, losses)
    for figure in (*drawings, frontier_figure(frontier, claims, config.lrs)):
        figure.draw_without_rendering()


def test_a_folder_that_another_run_holds_is_refused(tmp_path):
    with lock(tmp_path, wait=False):
        done = launched(tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"is in use by process {os.getpid()} on" in line
    assert [file.name for file in tmp_path.iterdir()] == [".lock"]


def test_a_folder_with_another_tasks_run_is_refused(tmp_path):
    write_config(tmp_path, "mnist", BackpropConfig(), device="CPU")
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UserError, match="holds a run of --task=mnist"):
        run(BackpropConfig(workdir=str(tmp_path)))
    assert {file.name for file in tmp_path.iterdir()} == {".lock", "config.json", "flags.txt", "summary.json"}


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    done = launched(tmp_path / "run", "--lrs=-1")
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_network(tmp_path):
    done = launched(
        tmp_path,
        *("--hidden=3", "--outputs=1", "--inputs=0.1,0.2,0.3", "--targets=0.5", "--activation=tanh"),
        *("--biases", "--lrs=0.1", "--epochs=5", "--frontier_rates=64", "--frontier_epochs=50"),
    )
    assert done.returncode == 0, done.stderr
    for line in (
        "o1        = w10*a_h1 + w11*a_h2 + w12*a_h3 + b4",
        "da_o1/do1 = (1 - a_o1^2) = (1 - 0.922802^2) = 0.148436",
        "dE/db4    = dE1/da_o1 * da_o1/do1 * 1 = 0.422802 * 0.148436 * 1 = 0.0627591",
        "the outputs stay between -1 and 1, so E_total is",
    ):
        assert line in done.stdout
    assert [f"Step {n}." in done.stdout for n in range(1, 7)] == [True] * 6
    assert "published" not in done.stdout
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "wrong_published_equations" not in summary
    assert summary["frontier"]["largest_possible_loss"] == 1.125
    assert summary["gradients"]["max_difference_by_hand_autodiff"] < 1e-15
    names = [f"w{n}" for n in range(1, 10)] + ["b1", "b2", "b3", "w10", "w11", "w12", "b4"]
    assert [row["weight"] for row in rows(tmp_path / "gradients.csv")] == names
    assert [name for name in rows(tmp_path / "trajectories.csv")[0] if name[0] in "wb"] == names
    assert json.loads((tmp_path / "config.json").read_text())["flags"]["weights"][-1] == 0.7


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("frontier_min", [pytest.param(1e-3, marks=pytest.mark.slow), 1e11])
def test_a_descent_that_overflows_leaves_no_wrong_number(tmp_path, capsys, frontier_min):
    run(
        BackpropConfig(
            lrs=(1e-9, 1e12),
            epochs=6,
            activation="relu",
            inputs=(1e5, 1e5),
            targets=(1e6, 1e6),
            precision="float32",
            frontier_rates=64,
            frontier_min=frontier_min,
            frontier_max=1e12,
            frontier_epochs=20,
            workdir=str(tmp_path),
        )
    )
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["final_losses"]["1000000000000.0"] is None
    assert summary["final_losses"]["1e-09"] > 0
    assert summary["frontier"]["outcomes"]["diverged"] > 0
    if frontier_min == 1e11:
        assert summary["frontier"]["outcomes"] == {"diverged": 64}
        assert summary["frontier"]["best_rate"] is summary["frontier"]["best_loss"] is None
        assert summary["frontier"]["failing_always_from"] == pytest.approx(1e11)
    for name in ("trajectories", "frontier", "gradients"):
        text = (tmp_path / f"{name}.csv").read_text()
        assert "nan" not in text
        assert "inf" not in text
    assert {row["final_loss"] for row in rows(tmp_path / "frontier.csv") if row["outcome"] == "diverged"} == {
        ""
    }
    shown = capsys.readouterr().out
    assert "overflow" in shown
    assert "nan" not in shown


SMALL = ("--lrs=0.5", "--epochs=3", "--frontier_rates=64", "--frontier_epochs=5")


@pytest.mark.parametrize("size", ["4k", "160k"])
def test_a_full_disk_is_one_line_and_leaves_whole_files(small_disk, size):
    folder = small_disk(size)
    done = launched(folder, *SMALL)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith((f"launch.py: {folder}/", f"launch.py: {folder} lacks frontier, loss_all, "))
    assert "No space left on device: make room there, then start again" in line
    assert not [file for file in folder.rglob("*.partial")]
    for file in folder.glob("*.json"):
        json.loads(file.read_text())
    for file in folder.glob("*.png"):
        assert file.read_bytes().endswith(b"IEND\xaeB`\x82")
    for file in folder.glob("report.html"):
        assert file.read_text().endswith("</html>\n")


def test_a_read_only_disk_is_said_before_any_work(small_disk):
    done = launched(small_disk("2m,ro") / "run", *SMALL)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "cannot write there (Read-only file system): make it writable, or give another folder" in line


def test_a_folder_that_vanishes_during_a_run_is_one_line(tmp_path, monkeypatch):
    def vanish(*start):
        shutil.rmtree(tmp_path / "run")
        return gradients(*start)

    monkeypatch.setattr(task, "gradients", vanish)
    done = launched(tmp_path / "run", *SMALL)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "No such file or directory" in line
    assert "then start again" in line
    assert not (tmp_path / "run").exists()


def test_jax_looks_for_no_other_device_than_the_cpu(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(jax.config, "update", lambda *option: told.append(option))
    monkeypatch.setattr(task, "_run_in", lambda folder, config: None)
    run(BackpropConfig(workdir=str(tmp_path)))
    assert told == [("jax_platforms", "cpu")]
