"""Logs as people's programs print them, read back as accuracies by epoch."""

import re
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.notebook.log import chosen, read_log

RIGHT = [9815, 9878, 9931, 9942, 9935]
BEST, LAST = Fraction("0.9942"), Fraction("0.9935")


def bar(steps, says="loss=0.0123 batch_id=1", behind="", *, updates=3):
    """tqdm's line, written over itself, in the order of its updates."""
    lines = [
        f"{says}: {100 * done // updates}%|█ | {steps * done // updates}/{steps} [00:12<00:00, 7it/s{behind}]"
        for done in range(updates + 1)
    ]
    return "\r".join([f"  0%|          | 0/{steps} [00:00<?, ?it/s]", *lines])


def plain(epoch, right):
    return f"\nTest set: Average loss: 0.0214, Accuracy: {right}/10000 ({right / 100:.2f}%)\n"


STYLES = {
    "tqdm": lambda epoch, right: f"EPOCH: {epoch}\n{bar(469)}{plain(epoch, right)}",
    "rounded percent": lambda epoch, right: (
        f"{bar(469)}\nTest set: Average loss: 0.02, Accuracy: {right}/10000 ({right / 100:.0f}%)\n"
    ),
    "training accuracy in the bar": lambda epoch, right: (
        f"Epoch {epoch + 1}:\n{bar(469, 'Loss=0.06 Batch_id=468 Accuracy=93.50')}{plain(epoch, right)}"
    ),
    "epoch behind the bar": lambda epoch, right: f"{bar(469)}Epoch {epoch + 1} {plain(epoch, right)}",
    "training set, too": lambda epoch, right: (
        f"{bar(469)}\nTrain set: Average loss: 0.0437, Accuracy: 59202/60000 (98.67%)\n{plain(epoch, right)}"
    ),
    "only test lines": plain,
    "one line": lambda epoch, right: (
        f"Epoch: {epoch + 1}, Train Loss: 0.0812, Train Accuracy: 97.52%, Test Loss: 0.0310, "
        f"Test Accuracy: {right / 100:.2f}%\n"
    ),
    "tab and colon": lambda epoch, right: (
        f"============== EPOCH  {epoch}\n\t Train accuracy : 98.86166666 , Test Accuracy: {right / 100}\n"
        f"\t Train Loss: 0.4138 , Test Loss: 0.0668\n"
    ),
    "validation, fractions": lambda epoch, right: (
        f"[{epoch + 1}/5] loss=0.0312 acc=0.9871 val_loss=0.0214 val_acc={right / 10000}\n"
    ),
    "Keras": lambda epoch, right: (
        f"Epoch: {epoch + 1} / 5\n469/469 [============] - 8s 17ms/step - loss: 1.0392 - accuracy: 49.1125\n"
        f"{plain(epoch, right)}"
    ),
    "best so far": lambda epoch, right: (
        f"Epoch {epoch + 1}: Test Accuracy: {right / 100:.2f}% (best so far: 99.99%)\n"
        f"Validation accuracy improved from 90.00 to 99.98, saving model\n"
    ),
    "said twice": lambda epoch, right: (
        f"EPOCH: {epoch}\n{bar(469)}{plain(epoch, right)}Validation Accuracy: {right / 100:.2f}%\n"
    ),
    "scheduler": lambda epoch, right: (
        f"EPOCH: {epoch}\n{bar(469)}Adjusting learning rate of group 0 to 1.0000e-02.\n"
        f"{plain(epoch, right)}Epoch 00000: reducing learning rate of group 0 to 1.0000e-03.\n"
    ),
    "warning": lambda epoch, right: (
        "  0%|          | 0/469 [00:00<?, ?it/s]/usr/lib/a.py:66: UserWarning: Implicit dimension choice\n"
        f"  return F.log_softmax(x)\n{bar(469)}{plain(epoch, right)}"
    ),
    "two bars": lambda epoch, right: (
        f"{bar(469, 'Train', ', loss=0.1, acc=98.10')}\n"
        f"{bar(79, 'Test', f', loss=0.02, accuracy={right / 100:.2f}')}\n"
    ),
}


def printed(style, right=RIGHT):
    return "".join(STYLES[style](epoch, each) for epoch, each in enumerate(right))


@pytest.mark.parametrize("style", STYLES)
def test_each_style_has_its_accuracy_by_epoch(style):
    (training,) = read_log([(7, printed(style))])
    assert [epoch.accuracy for epoch in training.epochs] == [Fraction(each, 10000) for each in RIGHT]
    assert (training.best, training.best_epoch, training.last) == (BEST, 4, LAST)
    assert training.cell == 7
    if "it/s" in printed(style) or style == "Keras":
        assert training.steps == 469


@given(
    st.sampled_from(sorted(STYLES.keys() - {"said twice"})),
    st.lists(st.integers(9100, 9999), min_size=2, max_size=30),
)
def test_any_accuracies_are_read_back(style, right):
    (training,) = read_log([(1, printed(style, right))])
    assert [epoch.accuracy for epoch in training.epochs] == [Fraction(each, 10000) for each in right]


def test_the_epoch_from_which_on_the_target_holds():
    (training,) = read_log([(1, printed("tqdm", [9941, 9939, 9940, 9945, 9942]))])
    assert training.holds_from(0.994) == 3
    assert training.holds_from(0.9942) == 4
    assert training.holds_from(0.9943) is None


def test_training_accuracies_and_the_number_of_images_are_kept():
    (training,) = read_log([(1, printed("training set, too"))])
    assert {epoch.train_accuracy for epoch in training.epochs} == {Fraction(59202, 60000)}
    assert {epoch.images for epoch in training.epochs} == {10000}
    assert {epoch.loss for epoch in training.epochs} == {0.0214}


def test_several_trainings_are_told_apart_and_the_last_one_counts():
    first, second = printed("tqdm"), printed("tqdm", [9700, 9800])
    trainings = read_log([(1, first + second), (3, "Test Accuracy: 99.9%"), (5, first)])
    assert [(each.cell, len(each.epochs)) for each in trainings] == [(1, 5), (1, 2), (5, 5)]
    assert chosen(trainings) is trainings[-1]
    assert chosen(()) is None


def test_a_training_that_another_cell_goes_on_with_is_one():
    parts = re.split("(?=EPOCH: 3)", printed("tqdm"))
    (training,) = read_log(enumerate(parts, 1))
    assert len(training.epochs) == 5
    assert training.cell == 1


def test_training_images_that_are_called_test_set():
    text = "".join(
        f"{bar(3750)}\nTest set: Average loss: 0.02, Accuracy: {right * 6}/60000 (99%)\n" for right in RIGHT
    )
    (training,) = read_log([(1, text)])
    assert training.split == "train"


def test_a_test_after_epochs_of_validation_is_apart():
    text = "".join(
        f"Epoch {epoch}/5\nTraining Accuracy: 97% | Validation Accuracy: {right / 100}%\nBest: 99.99%\n"
        for epoch, right in enumerate(RIGHT, 1)
    )
    (training,) = read_log([(1, f"{text}=== Final ===\n{bar(79, 'Testing')}\nTest Accuracy: 99.47%\n")])
    assert (training.split, len(training.epochs)) == ("validation", 5)
    assert (training.last, training.final_test) == (LAST, Fraction("0.9947"))
    assert training.steps is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Text(0.5, 1.0, 'Test Accuracy')<Figure size 1080x720 with 4 Axes>",
        "Accuracy is :  75.0",
        "Accuracy of 5 : 99 %\nAccuracy of 6 : 98 %",
        "Max Testing Loss 0.0157 with Max Testing Accuracy 99.55",
        "Test Accuracy: 99.42%",
        "accuracy: 12345/10000",
        "EPOCH: 1\nTest set: Accuracy: 10001/10000 (100.01%)",
        "epoch " * 50_000,
        "Accuracy " + "9" * 100_000,
        "acc" * 100_000 + "\r" * 100_000,
    ],
)
def test_what_is_no_log_of_a_training_is_none(text):
    assert read_log([(1, text)]) == ()
