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


RAISED = "Accuracy is greater than 99.0 and reached at epoch 3\n"
STYLES |= {
    "cut bar": lambda epoch, right: (
        f"Epoch {epoch + 1}/5 | Loss=0.1 Accuracy=99.60% LR=0.05: 100%|#| 469/469\n{plain(epoch, right)}"
    ),
    "bar cut in its text": lambda epoch, right: (
        f"Epoch {epoch + 1}/5 | Loss=0.1 Accuracy=99.60% LR=0.05: 1\n{plain(epoch, right)}"
    ),
    "a target reached": lambda epoch, right: f"Epoch {epoch}\n{plain(epoch, right)}{RAISED * (right > 9900)}",
    "a target above": lambda epoch, right: (
        f"Epoch {epoch}\nTest Accuracy: {right / 100:.2f}% (target: 99.40%)\n"
        "Still below the required test accuracy of 99.40%\nTest accuracy must be >= 99.40%\n"
    ),
    "decimals in the count": lambda epoch, right: (
        f"Epoch {epoch}\nTest set: Average loss: 0.03, Accuracy: {right}.0/10000 ({right / 100:.2f}%)\n"
    ),
    "commas in the count": lambda epoch, right: f"Epoch {epoch}\nTest Accuracy: {right:,}/10,000\n",
    "no word": lambda epoch, right: (
        f"[{epoch + 1:02d}/05] loss 0.1 | train 99.99% | test {right / 100:.2f}%\n"
    ),
    "no word, losses": lambda epoch, right: (
        f"epoch {epoch}: train loss 0.12 (99.99%), test loss 0.03 ({right / 100:.2f}%)\n"
    ),
    "a count without a word": lambda epoch, right: (
        f"Train Epoch: {epoch} [59904/60000 (100%)]\tLoss: 0.1\nTest set: Average loss: 0.03, {right}/10000\n"
    ),
    "error": lambda epoch, right: f"Epoch {epoch}: test error: {100 - right / 100:.2f}%\n",
    "number before word": lambda epoch, right: f"Epoch {epoch}: {right / 100:.2f}% test accuracy\n",
    "tutorial": lambda epoch, right: (
        f"[{epoch + 1},  2000] loss: 2.1\nAccuracy of the network on the 10000 test images: {right / 100} %\n"
    ),
    "logging": lambda epoch, right: (
        f"2026-05-01 10:00:12,123 - INFO - Epoch {epoch}: train accuracy 99.99, test accuracy {right / 100}\n"
    ),
    "Lightning": lambda epoch, right: (
        f"Epoch {epoch}: 100%|████| 469/469 [00:08<00:00, 55it/s, v_num=0, train_acc=0.91, val_acc=0.9100]\r"
        f"Validation DataLoader 0: 100%|████| 79/79 [00:01<00:00, 60it/s]\r"
        f"Epoch {epoch}: 100%|████| 469/469 [00:09<00:00, 55it/s, v_num=0, val_acc={right / 10000}]\n"
    ),
    "Lightning's rich bar": lambda epoch, right: (
        f"Epoch {epoch}/4 ━━━━━━━━ 469/469 0:00:08 • 0:00:00 55it/s val_acc: {right / 10000}\n"
    ),
}


def printed(style, right=RIGHT):
    return "".join(STYLES[style](epoch, each) for epoch, each in enumerate(right))


TABLES = {
    "columns": ("epoch   train loss   train acc   test loss   test acc", "{}  0.1  99.99  0.03  {:.2f}"),
    "two words": ("Epoch  Train  Test", "{}  99.99  {:.2f}"),
    "tabs": ("Epoch\tLoss\tTrain Acc (%)\tTest Acc (%)", "{}\t0.1\t99.99\t{:.2f}"),
    "commas": ("epoch,train_acc,test_acc", "{},99.99,{:.2f}"),
    "markdown": ("| Epoch | Train acc | Test acc |\n|---|---|---|", "| {} | 99.99 % | {:.2f} % |"),
    "pandas": ("    loss  accuracy  val_accuracy", "{}  0.12     99.99         {:.2f}"),
    "rich": ("┃ Epoch ┃ Train acc ┃ Test acc ┃ Time ┃", "│ {} │ 99.99 % │ {:.2f} % │ 12.3 s │"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_its_accuracy_by_epoch(name):
    header, row = TABLES[name]
    rows = [row.format(epoch, right / 100) for epoch, right in enumerate(RIGHT, 1)]
    (training,) = read_log([(1, "\n".join([header, *rows]))])
    assert [epoch.accuracy for epoch in training.epochs] == [Fraction(right, 10000) for right in RIGHT]


def test_one_evaluation_at_the_end_is_of_as_many_epochs_as_are_counted():
    text = "".join(f"epoch {epoch}\n" for epoch in range(15))
    (training,) = read_log([(1, f"{text}Accuracy of the network on the 10000 test images: 99 %\n")])
    assert (training.num_epochs, training.best_epoch, training.last) == (15, 15, Fraction(99, 100))
    (training,) = read_log([(1, "Test accuracy: 9.80%\n" + printed("decimals in the count"))])
    assert (training.num_epochs, training.epochs[0].accuracy) == (5, Fraction(RIGHT[0], 10000))


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
