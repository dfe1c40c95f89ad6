"""Whole notebooks judged: each mistake in one that is otherwise right, and what is no mistake."""

import json
import os
import re
from fractions import Fraction
from pathlib import Path

import pytest

from audit.notebook import network
from audit.notebook.claims import Limits
from audit.notebook.mistakes import MISTAKES, REMARKS, SILENT
from audit.notebook.report import csv_row, in_one_line, text
from audit.notebook.verdict import audit_notebook
from cnn.config import CnnConfig
from cnn.experiment import resolve
from tests.audit.notebook.written import IMPORTS, LOADERS, LOOPS, RIGHT, TRAINING, log, net, write

NET = net(
    """
    self.conv1 = nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.05),
    )  # output_size = 26, RF = 3
    self.conv2 = nn.Sequential(
        nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
    )  # output_size = 24, RF = 5
    self.pool = nn.MaxPool2d(2, 2)  # output_size = 12, RF = 6
    self.conv3 = nn.Sequential(
        nn.Conv2d(16, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
    )  # output_size = 10, RF = 10
    self.conv4 = nn.Conv2d(16, 10, 1)
    self.gap = nn.AvgPool2d(10)  # output_size = 1, RF = 10
    """,
    """
    x = self.conv3(self.pool(self.conv2(self.conv1(x))))
    x = self.gap(self.conv4(x)).view(-1, 10)
    return F.log_softmax(x, dim=1)
    """,
)
PARAMETERS = 72 + 16 + 8 * 16 * 9 + 32 + 16 * 16 * 9 + 32 + 170


def submission(folder, *, change=(), right=RIGHT, steps=938, prose="", printed="", readme="", **others):
    """A notebook of six cells: imports, the class, loaders, loops, training, prose; some texts are changed.

    Args:
      change: pairs of a text in the code and what stands in its place.
      right: right answers of 10,000 after each epoch, for the log; printed: what the class's cell printed.
    """
    texts = [IMPORTS, NET, LOADERS, LOOPS, TRAINING]
    for before, after in change:
        assert any(before in each for each in texts), before
        texts = [each.replace(before, after) for each in texts]
    file = write(folder, *texts, prose, **others)
    content = json.loads(file.read_text())
    content["cells"][4]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": log(right, steps)}]
    content["cells"][1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": printed}]
    content["cells"][5]["cell_type"] = "markdown"
    file.write_text(json.dumps(content))
    if readme:
        (folder / "README.md").write_text(readme)
    return file


def names(audit, mistakes=True):
    return [found.name for found in audit.findings if found.is_mistake == mistakes]


def test_a_right_submission_is_right(tmp_path):
    audit = audit_notebook(submission(tmp_path), Limits())
    assert (audit.refused, audit.verdict, audit.findings) == (None, "right", ())
    assert audit.network.parameters == PARAMETERS
    assert [claim.holds for claim in audit.claims] == [True, True, True]
    assert "99.42 % after the last of 15 epochs" in audit.claims[2].found
    assert "from epoch 13 on" in audit.claims[2].found
    assert "15 in the code, 15 in the log" in audit.claims[1].found
    assert 0 < audit.standing.percentile < 100
    words = text(audit)
    assert words.startswith("submission.ipynb: RIGHT\n")
    assert f"total{'':>33}{PARAMETERS:,}" in re.sub(" +(?=[0-9])", " " * 33, words)


def test_the_command_trains_this_network_by_this_recipe(tmp_path):
    import shlex

    import launch

    changed = [("lr=0.01, momentum=0.9", "lr=0.05, momentum=0.8"), ("range(1, 16)", "range(1, 13)")]
    audit = audit_notebook(submission(tmp_path, change=changed, right=RIGHT[:12]), Limits())
    (command,) = [line for line in text(audit).splitlines() if line.startswith("python launch.py")]
    _, config = launch.parse(shlex.split(command)[1:])
    assert isinstance(config, CnnConfig)
    experiment = resolve(config)
    assert experiment.architecture == audit.network.architecture
    assert experiment.recipe == audit.recipe.recipe
    assert (experiment.recipe.epochs, experiment.recipe.momentum) == (12, 0.8)


def test_every_fact_has_its_words():
    code = "".join(file.read_text() for file in Path(network.__file__).parent.glob("*.py"))
    facts = re.findall(r'\b(?:Fact|notes)\(\s*"([a-z]\w+)"', code)
    assert len(facts) > 40
    assert {*facts} <= {*MISTAKES, *REMARKS, *SILENT}
    assert not MISTAKES.keys() & REMARKS.keys()


TRAIN = "train=True, download=True, transform=transforms.Compose(["
TEST = "train=False, transform=transforms.Compose(["
LAST = "self.conv4 = nn.Conv2d(16, 10, 1)"
LOGITS = "self.gap(self.conv4(x))"
LOOP = "for epoch in range(1, 16):"


def instead(before, after, **others):
    """What submission takes: one text in place of another."""
    return {"change": [(before, after)], **others}


SIXTEEN = instead("range(1, 16)", "range(1, 17)", right=[*RIGHT, 9941])
CASES = {
    "schedule_never_stepped": instead(LOOP, f"s = optim.lr_scheduler.StepLR(optimizer, 6)\n{LOOP}"),
    "test_is_training_set": instead("train=False", "train=True"),
    "test_images_augmented": instead(TEST, f"{TEST}transforms.RandomRotation(5),"),
    "activation_after_last_layer": instead(LOGITS, f"F.relu({LOGITS})"),
    "batch_norm_after_last_layer": instead(
        LAST, "self.conv4 = nn.Sequential(nn.Conv2d(16, 10, 1, bias=False), nn.BatchNorm2d(10))"
    ),
    "dropout_after_last_layer": instead(
        LAST, "self.conv4 = nn.Sequential(nn.Conv2d(16, 10, 1), nn.Dropout(0.1))"
    ),
    "rotation_fill": instead(TRAIN, f"{TRAIN}transforms.ToTensor(), transforms.RandomRotation(7, fill=1),"),
    "shuffle_off": instead("batch_size=64, shuffle=True", "batch_size=64"),
    "dropout_in_evaluation": instead(LOGITS, "self.gap(self.conv4(F.dropout(x, 0.1)))"),
    "stays_in_evaluation": instead("    model.train()\n", ""),
    "normalization_differs": instead(
        f"{TEST}\n        transforms.ToTensor(), transforms.Normalize((0.1307,)",
        f"{TEST}\n        transforms.ToTensor(), transforms.Normalize((0.5,)",
    ),
    "test_loss_of_batches": instead(', reduction="sum"', ""),
    "unused_layers": instead(LAST, f"{LAST}\n        self.fc = nn.Linear(10, 10)"),
    "printed_total": {"printed": "Total params: 12,345\nTrainable params: 12,345\n"},
    "quoted_total": {"prose": "# The network\n* Parameters: **4,321**, fewer than 20,000\n"},
    "receptive_fields": instead("output_size = 12, RF = 6", "output_size = 12, RF = 10"),
    "steps_unlike_code": {"steps": 469},
    "epochs_unlike_code": {"right": RIGHT[3:]},
    "best_epoch_quoted": SIXTEEN | {"readme": "Test accuracy: 99.42 %\n"},
}


def test_a_summary_in_a_text_is_as_right_as_in_the_outputs(tmp_path):
    """torchsummary counts what forward uses alone, which is said once, of the layers that are not used."""
    summary = f"Total params: {PARAMETERS:,}\nTrainable params: {PARAMETERS:,}\n"
    for readme, found in ((summary, ["unused_layers"]), (summary.lower(), ["unused_layers", "quoted_total"])):
        audit = audit_notebook(submission(tmp_path, **CASES["unused_layers"], readme=readme), Limits())
        assert sorted(names(audit), reverse=True) == found


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_alone_is_named_with_its_place(name, tmp_path):
    audit = audit_notebook(submission(tmp_path, **CASES[name]), Limits())
    assert audit.refused is None
    assert names(audit) == [name]
    assert audit.verdict == "wrong"
    (found,) = audit.mistakes
    assert found.place.file in ("submission.ipynb", "README.md")
    assert f"{found.place}: " in " ".join(text(audit).split())
    assert found.remedy
    assert name in csv_row(audit, 0.994)["mistakes"]
    assert name.replace("_", " ") in in_one_line(audit)


def test_the_first_wrong_receptive_field_says_that_it_was_doubled(tmp_path):
    audit = audit_notebook(submission(tmp_path, **CASES["receptive_fields"]), Limits())
    assert "10, doubled at the pooling, where 6 belongs (1 of 5 rows)" in audit.mistakes[0].what
    line = next(number for number, each in enumerate(NET.splitlines(), 1) if "self.pool =" in each)
    assert str(audit.mistakes[0].place) == f"cell 2, line {line}"


@pytest.mark.parametrize(("written", "wrong"), [(10, False), (28, False), (14, True)])
def test_a_pooled_whole_map_has_its_own_field_or_that_of_what_is_pooled(written, wrong, tmp_path):
    changed = instead("output_size = 1, RF = 10", f"output_size = 1, RF = {written}")
    audit = audit_notebook(submission(tmp_path, **changed), Limits())
    assert names(audit) == ["receptive_fields"] * wrong
    assert all("14, where 28 belongs" in found.what for found in audit.mistakes)


TABLES = {
    "conv 3x3 | RF 3\nconv 3x3 | RF 5\nmax pool 2x2 | RF 6\nconv 3x3 | RF 10": None,
    "conv 3x3 | RF 3\nconv 3x3 | RF 5\nmax pool 2x2 | RF 10\nconv 3x3 | RF 12": "10, doubled",
    "| Layer | Kernel | Stride | Receptive Field |\n|-|-|-|-|\n"
    "| Conv1 | 3x3 | 1 | 3 |\n| Conv2 | 3x3 | 2 | 5 |\n| Conv3 | 3x3 | 1 | 7 |\n": "7, where 9",
    "Conv2d-1 RF 3\nConv2d-4 RF 5\nMaxPool2d-7 RF: 6\nConv2d-8 RF: 8\nConv2d-9 RF: 8": "8, where 10",
    "We pool at RF = 5, and stop at RF = 17.": None,
    "conv 3x3 | RF 7\nconv 3x3 | RF 9\nconv 3x3 | RF 20": None,
    "Conv1: 3x3, receptive field: 1 + (3-1) * 1 = 3\nConv2: 3x3, receptive field: 3 + (3-1) * 1 = 5\n"
    "Pool: MaxPool, receptive field: 5 + (2-1) * 1 = 6": None,
}


@pytest.mark.parametrize(("table", "wrong"), TABLES.items())
def test_tables_of_receptive_fields_in_prose(table, wrong, tmp_path):
    audit = audit_notebook(submission(tmp_path, prose=f"# Layers\n\n{table}\n"), Limits())
    assert names(audit) == (["receptive_fields"] if wrong else [])
    assert wrong is None or wrong in audit.mistakes[0].what


ALLOWED = {
    "rotation of PIL images": instead(TRAIN, f"{TRAIN}transforms.RandomRotation(7, fill=(1,)),"),
    "the total that torchsummary prints": {"printed": f"Total params: {PARAMETERS:,}\n"},
    "several networks in the prose": {"prose": "First: 12,345 parameters. Second: parameters 4,321.\n"},
    "a best epoch that is called that": SIXTEEN | {"readme": "Best test accuracy: 99.42 %\n"},
    "a log in the README": SIXTEEN | {"readme": log()},
    "receptive fields in old code": instead(
        "self.gap = nn", "# self.pool2 = nn.MaxPool2d(2, 2)  # RF = 20\n        self.gap = nn"
    ),
    "a break before the last epoch": instead(
        "    test(model, device, test_loader)\n",
        "    if test(model, device, test_loader) < 0.02:\n        break\n",
        right=RIGHT[3:],
    ),
    "a round limit": {"prose": "Fewer than 20000 parameters.\n"},
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_no_mistake(name, tmp_path):
    audit = audit_notebook(submission(tmp_path, **ALLOWED[name]), Limits())
    assert (audit.refused, names(audit)) == (None, [])


def test_a_best_epoch_is_called_that(tmp_path):
    audit = audit_notebook(submission(tmp_path, right=[*RIGHT[:-1], 9931]), Limits())
    assert audit.verdict == "wrong"
    claim = audit.claims[2]
    assert claim.holds is False
    assert "at its best epoch only: 99.41 % after epoch 13" in claim.found
    assert "the last of 15 epochs has 99.31 %" in claim.found


def test_limits_are_the_users(tmp_path):
    file = submission(tmp_path)
    for limits, broken in (
        (Limits(PARAMETERS + 1, 15, 0.9942), []),
        (Limits(PARAMETERS, 15, 0.9942), ["parameters"]),
        (Limits(PARAMETERS + 1, 14, 0.9942), ["epochs"]),
        (Limits(PARAMETERS + 1, 15, 0.9943), ["accuracy"]),
    ):
        audit = audit_notebook(file, limits)
        assert [claim.name for claim in audit.claims if not claim.holds] == broken
        assert audit.verdict == ("wrong" if broken else "right")


def test_remarks_do_not_make_it_wrong(tmp_path):
    changed = [
        ("dim=1)", ")"),
        ("torch.manual_seed(1)\n", ""),
    ]
    audit = audit_notebook(submission(tmp_path, change=changed), Limits())
    assert sorted(names(audit, mistakes=False)) == ["log_softmax_without_dim", "no_seed"]
    assert audit.verdict == "right"


def test_exactly_20_epochs_are_a_remark_and_the_limit_is_the_teachers(tmp_path):
    file = submission(tmp_path, **instead("range(1, 16)", "range(1, 21)", right=[9900] * 14 + [9941] * 6))
    audit = audit_notebook(file, Limits())
    assert (audit.verdict, names(audit), names(audit, mistakes=False)) == ("right", [], ["epochs_at_limit"])
    assert "some years of the assignment ask for within 20, some for fewer than 20" in audit.findings[0].what
    audit = audit_notebook(file, Limits(max_epochs=19))
    assert (audit.verdict, names(audit), names(audit, mistakes=False)) == ("wrong", [], [])


def test_a_submission_without_outputs_has_no_accuracy_to_hold(tmp_path):
    audit = audit_notebook(submission(tmp_path, right=[]), Limits())
    assert (audit.verdict, audit.claims[2].holds, audit.standing) == ("not shown", None, None)
    assert names(audit, mistakes=False) == ["no_log"]
    missing = (
        "not shown: accuracy, no log of a training was found: hand it in with the outputs of its training"
    )
    for words in (in_one_line(audit), csv_row(audit, 0.994)["notes"], " ".join(text(audit).split())):
        assert missing in words
    assert text(audit).startswith("submission.ipynb: NOT SHOWN\n")


def test_what_is_refused_tells_what_was_read(tmp_path):
    changed = [
        ("x = self.gap(self.conv4(x))", "x = torch.fft.fft2(self.gap(self.conv4(x)))"),
        ("train=False", "train=True"),
    ]
    audit = audit_notebook(submission(tmp_path, change=changed), Limits())
    assert (audit.verdict, audit.network, audit.counted) == ("unreadable", None, ("Net", PARAMETERS))
    assert [claim.holds for claim in audit.claims] == [True, True, True]
    assert names(audit) == ["test_is_training_set"]
    assert csv_row(audit, 0.994)["last_accuracy"] == 0.9942
    for words in (text(audit), in_one_line(audit)):
        assert "99.42 %" in words
        assert "is not understood" in words


OTHERS = {
    "another project": ("README.md", "# Sorting\nTotal parameters: 12,345. Test accuracy: 99.99 %\n"),
    "another project about MNIST": ("README.md", "# MNIST by an MLP\n\nParameters: 12,345\n"),
    "another notebook": (
        "README.md",
        "# other.ipynb\n\nMNIST, 12,345 parameters, validation accuracy 99.10\n",
    ),
    "the log of another": ("other.log", log([9100, 9200, 9300])),
    "a shell log": ("shell.log", f"$ python other.py\n{log([9100, 9200, 9300])}\n"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_text_of_another_submission_changes_nothing(name, tmp_path):
    file, content = OTHERS[name]
    (tmp_path / file).write_text(content)
    if "other" in file + content:
        write(tmp_path, IMPORTS, name="other.ipynb")
    audit = audit_notebook(submission(tmp_path), Limits())
    assert (audit.verdict, audit.findings, audit.texts) == ("right", (), ())
    (tmp_path / "train.py").write_text("\n".join([IMPORTS, NET, LOADERS, LOOPS, TRAINING]))
    (tmp_path / "submission.ipynb").unlink()
    (tmp_path / "train.log").write_text(log())
    audit = audit_notebook(tmp_path / "train.py", Limits())
    assert (audit.verdict, audit.training.last, audit.texts) == (
        "right",
        Fraction(9942, 10000),
        ("train.log",),
    )
    assert "train.log (the log)" in text(audit)
    assert "read beside it: train.log (the log)" in csv_row(audit, 0.994)["notes"]


def test_a_py_files_log_may_stand_in_a_text_beside_it(tmp_path):
    (tmp_path / "train.py").write_text("\n".join([IMPORTS, NET, LOADERS, LOOPS, TRAINING]))
    (tmp_path / "README.md").write_text(f"# Log\n```\n{log()}\n```\n")
    audit = audit_notebook(tmp_path / "train.py", Limits())
    assert (audit.refused, audit.verdict) == (None, "right")
    assert len(audit.training.epochs) == 15


def test_a_log_is_the_programs_that_prints_like_it(tmp_path):
    code = "\n".join([IMPORTS, NET, LOADERS, LOOPS, TRAINING])
    (tmp_path / "train.py").write_text(code)
    (tmp_path / "result.txt").write_text("".join(f"accuracy {99 + n / 100}\n" for n in range(15)))
    (tmp_path / "films.py").write_text("import torch.optim as optim\noptim.Adam([])\n")
    audit = audit_notebook(tmp_path / "train.py", Limits())
    assert (len(audit.training.epochs), audit.texts) == (15, ("result.txt",))
    (tmp_path / "films.py").write_text("import torch.optim as optim\n# another one of MNIST\n")
    assert audit_notebook(tmp_path / "train.py", Limits()).training is None


def test_nothing_is_executed(tmp_path):
    trace = tmp_path / "trace"
    evil = f"open({str(trace)!r}, 'w').write('ran')\nimport os\nos.system('touch {trace}')\n!touch {trace}\n"
    audit = audit_notebook(
        submission(tmp_path, change=[("import torch\n", f"import torch\n{evil}")]), Limits()
    )
    assert audit.network.parameters == PARAMETERS
    assert not trace.exists()
    assert os.listdir(tmp_path) == ["submission.ipynb"]
