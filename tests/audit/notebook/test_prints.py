"""Logs read by the code that printed them, whatever their words are."""

import json
from fractions import Fraction

import pytest

from audit.notebook.claims import Limits
from audit.notebook.verdict import audit_notebook
from tests.audit.notebook.test_verdict import NET, submission
from tests.audit.notebook.written import IMPORTS, LOADERS, LOOPS, RIGHT, TRAINING, write

PRINT = '    print("accuracy", 100. * correct / len(test_loader.dataset))\n'
START = f"import logging\nlogger = logging.getLogger()\nbest = 0\n{TRAINING[: TRAINING.index('for epoch')]}"
EPOCHS = "for epoch in range(1, 16):\n    train(model, device, train_loader, optimizer, epoch)\n"
TEST = "test(model, device, test_loader)"
SHARE = "100. * correct / len(test_loader.dataset)"

IN_TEST = {
    "%": (f'print("T %.2f" % ({SHARE}))', "T {percent:.2f}"),
    "format": (
        f'print("{{}} / {{n}} -> {{:.2f}}".format(correct, {SHARE}, n=10000))',
        "{right} / 10000 -> {percent:.2f}",
    ),
    "logger": (
        f'logger.info("done: %d right, %.2f", correct, {SHARE})',
        "2026-05-01 10:00:12,123 INFO root: done: {right} right, {percent:.2f}",
    ),
    "arguments": (
        'print("evaluated", correct, "of", len(test_loader.dataset))',
        "evaluated {right} of 10000",
    ),
    "texts added": (f'print("Result: " + str({SHARE}) + " %")', "Result: {percent} %"),
    "a line of two prints": (
        'print("Epoch", epoch, end=" "); print(f"score {correct}/{10000}")',
        "Epoch {epoch} score {right}/10000",
    ),
    "lines": (
        'print(f"\\n--- test ---\\nloss {test_loss:.4f}\\nhits {correct}/{10000}\\n")',
        "\n--- test ---\nloss 0.0300\nhits {right}/10000\n",
    ),
    "the best beside it": (
        f'global best; acc = {SHARE}; best = max(best, acc); print(f"Accuracy {{acc}} of {{best}}")',
        "Accuracy {percent} of 99.99",
    ),
    "error": (f'print(f"Wrong, error: {{100 - {SHARE}:.2f}}%")', "Wrong, error: {error:.2f}%"),
    "called otherwise": (f'print(f"Train accuracy: {{{SHARE}}}")', "Train accuracy: {percent}"),
    "a target": (
        f'print(f"Test accuracy: {{{SHARE}}}"); print(f"Accuracy near {{99.4}}")',
        "Test accuracy: {percent}\nAccuracy near 99.4",
    ),
}
IN_LOOP = {
    "columns": (f'a = {TEST}; print(f"{{epoch:3d}} {{a:.4f}}")', "{epoch:3d} {share:.4f}"),
    "rounded": (f'a = {TEST}; print("E", epoch, "A", round(a, 4))', "E {epoch} A {share}"),
    "a list": (f'seen.append({TEST}); print(f"{{epoch}}: {{seen[-1]:.4f}}")', "{epoch}: {share:.4f}"),
    "a helper": (f"say(epoch, outcome={TEST})", "[{epoch}] outcome: {share:.4f}"),
    "train and test by one function": (
        f'a, b = {TEST.replace("test_l", "train_l")}, {TEST}; print(f"Result {{a}}"); print(f"Result {{b}}")',
        "Result 0.91\nResult {share}",
    ),
}
HELPER = """
seen = []
def say(epoch, **values):
    print(f"[{epoch}] " + ", ".join(f"{key}: {value:.4f}" for key, value in values.items()))
"""


def read(folder, loops, training, line):
    """The training of a notebook that printed such a line an epoch, with a number nobody printed below."""
    lines = [
        line.format(
            epoch=epoch, right=right, percent=right / 100, share=right / 10000, error=100 - right / 100
        )
        for epoch, right in enumerate(RIGHT, 1)
    ]
    file = write(folder, IMPORTS, NET, LOADERS, loops, training, printed="\n".join(lines))
    return audit_notebook(file, Limits()).training


def assert_read(training):
    assert training.split == "test"
    assert [epoch.accuracy for epoch in training.epochs] == [Fraction(right, 10000) for right in RIGHT]


@pytest.mark.parametrize("name", IN_TEST)
def test_a_print_where_the_images_are_evaluated(name, tmp_path):
    code, line = IN_TEST[name]
    loops = LOOPS.replace(PRINT, f"    {code}\n")
    assert_read(read(tmp_path, loops, f"{START}{EPOCHS}    {TEST}\n", line))


@pytest.mark.parametrize("name", IN_LOOP)
def test_a_print_of_what_the_evaluation_returns(name, tmp_path):
    code, line = IN_LOOP[name]
    loops = LOOPS.replace(PRINT, "").replace("return test_loss", "return correct / len(test_loader.dataset)")
    assert_read(read(tmp_path, loops, f"{START}{HELPER}{EPOCHS}    {code}\n", line))


def test_the_next_cell_goes_on_with_the_training_and_another_network_does_not(tmp_path):
    epochs = EPOCHS.replace("16", "11") + f"    {TEST}\n"
    text = "".join(f"accuracy {right / 100}\n" for right in RIGHT[:10])
    for again, count in (
        ("", 20),
        ("model = Net()\noptimizer = optim.SGD(model.parameters(), lr=0.01)\n", 10),
    ):
        file = write(tmp_path, IMPORTS, NET, LOADERS, LOOPS, START + epochs, again + epochs, printed=text)
        content = file.read_text().replace(
            '"outputs": []',
            f'"outputs": [{{"output_type": "stream", "text": "{text}"}}]'.replace("\n", "\\n"),
        )
        file.write_text(content)
        assert audit_notebook(file, Limits()).training.num_epochs == count


@pytest.mark.parametrize("rows", [range(15), [0, 1, 13, 14]])
def test_a_table_that_a_later_cell_shows_is_not_the_log(rows, tmp_path):
    file = submission(tmp_path)
    content = json.loads(file.read_text())
    table = "".join(
        f"{row}  {row + 1}  98.00  {RIGHT[row] / 100}\n" + "..  ...  ...\n" * (row == 1) for row in rows
    )
    output = {
        "output_type": "execute_result",
        "data": {"text/plain": f"  epoch  train_acc  test_acc\n{table}"},
    }
    content["cells"].append({"cell_type": "code", "source": "df", "outputs": [output]})
    file.write_text(json.dumps(content))
    audit = audit_notebook(file, Limits())
    assert (audit.verdict, audit.training.cell) == ("right", 5)
    assert_read(audit.training)
