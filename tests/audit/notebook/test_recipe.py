import pytest

from audit.notebook import cells
from audit.notebook.interpreter import follow
from audit.notebook.mistakes import MISTAKES, REMARKS, SILENT
from audit.notebook.network import read_network
from audit.notebook.recipe import read_recipe
from cnn.recipe import Recipe
from tests.audit.notebook.written import IMPORTS, LOADERS, LOOPS, NET, TRAINING, WHOLE, write

NORMALIZE = "transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))"

OTHERWISE = NORMALIZE.replace("0.1307", "0.5")


def read(folder, *texts, **others):
    run = follow(cells.read(write(folder, *texts, **others)))
    recipe = read_recipe(run, read_network(run))
    assert {fact.name for fact in recipe.facts} <= {*MISTAKES, *REMARKS, *SILENT}
    return recipe


def changed(**replaced):
    """The cells of WHOLE, with some texts in the place of others: before=after pairs by the cell's name."""
    texts = {"net": NET, "loaders": LOADERS, "loops": LOOPS, "training": TRAINING}
    for name, pairs in replaced.items():
        for before, after in pairs.items():
            assert before in texts[name]
            texts[name] = texts[name].replace(before, after)
    return (IMPORTS, *texts.values())


def test_a_whole_recipe(tmp_path):
    recipe = read(tmp_path, *WHOLE)
    assert recipe.recipe == Recipe(epochs=15, batch_size=64)
    assert (recipe.missing, recipe.departures) == ([], [])
    assert (str(recipe.epochs.place), recipe.epochs.value) == ("cell 5, line 5", 15)
    assert [(size.value, str(size.place)) for size in recipe.batch_size] == [(64, "cell 3, line 1")]
    assert (recipe.optimizer.name, recipe.optimizer.arguments) == ("SGD", {"lr": 0.01, "momentum": 0.9})
    assert (recipe.schedule, recipe.stepped) == (None, "")
    assert [call.name for call in recipe.train_transforms] == ["ToTensor", "Normalize"]
    assert recipe.facts == []


SGD = "optim.SGD(model.parameters(), lr=0.01, momentum=0.9)"
OPTIMIZERS = {
    "optim.SGD(model.parameters(), 0.1, nesterov=True, momentum=0.8, weight_decay=1e-4)": (
        "--momentum=0.8 --nesterov --weight_decay=0.0001 --learning_rate=0.1"
    ),
    "optim.SGD(params=model.parameters(), lr=LR)\nLR = 3": "--momentum=0.0 --learning_rate=0.02",
    "torch.optim.Adam(model.parameters())": "--optimizer=adam --learning_rate=0.001",
    "optim.AdamW(filter(lambda p: p.requires_grad, model.parameters()), lr=2e-3)": (
        "--optimizer=adamw --weight_decay=0.01 --learning_rate=0.002"
    ),
}


@pytest.mark.parametrize("text", OPTIMIZERS)
def test_optimizers(text, tmp_path):
    texts = changed(training={SGD: text})
    recipe = read(tmp_path, texts[0] + "LR = 0.02\n", *texts[1:])
    assert recipe.recipe.flags == f"--epochs=15 --batch_size=64 {OPTIMIZERS[text]}"


STEP = "    test(model, device, test_loader)\n"
SCHEDULES = {
    "optim.lr_scheduler.StepLR(optimizer, 6, gamma=.2)": "--schedule=step --step_size=6 --gamma=0.2",
    "optim.lr_scheduler.ExponentialLR(optimizer, 0.9)": "--schedule=step --step_size=1 --gamma=0.9",
    "optim.lr_scheduler.MultiStepLR(optimizer, [6, 12])": "--schedule=multistep --milestones=6,12",
}


@pytest.mark.parametrize("text", SCHEDULES)
def test_schedules_by_epochs(text, tmp_path):
    made = {SGD: f"{SGD}\nscheduler = {text}", STEP: f"{STEP}    scheduler.step()\n"}
    recipe = read(tmp_path, *changed(training=made))
    assert recipe.recipe.flags == f"--epochs=15 --batch_size=64 {SCHEDULES[text]}"
    assert recipe.stepped == "epoch"


def one_cycle(arguments):
    return {SGD: f"{SGD}\nscheduler = optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, {arguments})"}


def test_one_cycle_by_batches(tmp_path):
    step = {"        optimizer.step()\n": "        optimizer.step()\n        scheduler.step()\n"}
    made = one_cycle("epochs=15, steps_per_epoch=len(train_loader)")
    recipe = read(tmp_path, *changed(training=made, loops=step))
    flags = "--learning_rate=0.1 --schedule=OneCycleLR --warmup=0.3"
    assert recipe.recipe.flags == f"--epochs=15 --batch_size=64 {flags}"
    assert recipe.departures == []
    shorter = read(tmp_path, *changed(training=one_cycle("total_steps=1000"), loops=step))
    assert shorter.recipe is None
    assert "its cycle has 1,000 steps, and 14,070 are taken" in shorter.missing[0].detail


def test_one_cycle_by_epochs_is_a_fact(tmp_path):
    made = one_cycle("total_steps=15") | {STEP: f"{STEP}    scheduler.step()\n"}
    recipe = read(tmp_path, *changed(training=made))
    assert recipe.recipe.schedule == "OneCycleLR"
    assert "one_cycle_of_epochs" in {fact.name for fact in recipe.facts}
    assert [fact.detail for fact in recipe.departures] == ["it changes after epochs; here after every step"]


def test_a_plateau_says_what_it_watches(tmp_path):
    made = {
        SGD: f"{SGD}\nscheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=2)",
        STEP: "    scheduler.step(test(model, device, test_loader))\n",
    }
    recipe = read(tmp_path, *changed(training=made))
    assert recipe.recipe.flags == "--epochs=15 --batch_size=64 --schedule=plateau --patience=2"
    assert [fact.detail for fact in recipe.departures] == ["it watches the test loss; here the training loss"]


def test_a_schedule_that_is_never_stepped_is_none(tmp_path):
    made = {SGD: f"{SGD}\nscheduler = optim.lr_scheduler.StepLR(optimizer, 6)"}
    recipe = read(tmp_path, *changed(training=made))
    assert recipe.recipe == Recipe(epochs=15, batch_size=64)
    assert (recipe.stepped, recipe.schedule.arguments) == ("never", {"step_size": 6})
    assert ("schedule_never_stepped", "StepLR") in [(fact.name, fact.detail) for fact in recipe.facts]


TRAIN = "transform=transforms.Compose([\n        " + NORMALIZE + "])),\n    batch_size=64"


def augmented(text):
    after = f"transform=transforms.Compose([\n        {text}])),\n    batch_size=64"
    return changed(loaders={TRAIN: after})


TRANSFORMS = {
    f"transforms.RandomRotation((-7., 7.), fill=(1,)), {NORMALIZE}": "--rotation=7.0",
    f"transforms.RandomRotation(3), transforms.RandomAffine(degrees=4), {NORMALIZE}": "--rotation=5.0",
    f"transforms.RandomAffine(5, translate=(.1, .1), scale=(.9, 1.1)), {NORMALIZE}": (
        "--rotation=5.0 --scale=0.1 --shift=2.8"
    ),
    f"transforms.RandomApply([transforms.CenterCrop(22)], p=0.1), transforms.Resize((28, 28)), {NORMALIZE}": (
        "--zoom=0.1"
    ),
    f"transforms.ColorJitter(brightness=.1, contrast=(.8, 1.2), hue=.1), {NORMALIZE}": (
        "--brightness=0.1 --contrast=0.2"
    ),
    f"{NORMALIZE}, transforms.RandomErasing(p=.25)": "--erasing=0.25",
    "transforms.ToTensor(), transforms.RandomRotation(7), transforms.Normalize(.13, .308)": "--rotation=7.0",
    f"transforms.RandomAffine(0, shear=10), {NORMALIZE}": "--shear=0.1763",
}


@pytest.mark.parametrize("text", TRANSFORMS)
def test_transforms_as_flags(text, tmp_path):
    recipe = read(tmp_path, *augmented(text))
    assert recipe.recipe.flags == f"--epochs=15 --batch_size=64 {TRANSFORMS[text]}"


MISSING = {
    "transforms.ToTensor(), transforms.RandomRotation(7, fill=(1,)), transforms.Normalize(.1307, .3081)": (
        "corners are filled with 1, ours with background (0)"
    ),
    f"{NORMALIZE}, transforms.RandomRotation(7)": "corners are filled with 0, ours with background (-0.424)",
    f"transforms.RandomPerspective(), {NORMALIZE}": "there is no flag for it",
    f"transforms.RandomAffine(0, translate=(.1, .2)), {NORMALIZE}": "the same along both axes",
    f"transforms.RandomRotation((0, 10)), {NORMALIZE}": "the same to both sides",
    f"transforms.RandomApply([transforms.RandomRotation(7)], p=.5), {NORMALIZE}": "some images alone",
    f"transforms.Resize(32), {NORMALIZE}": "ours are 28x28",
}


@pytest.mark.parametrize("text", MISSING)
def test_what_flags_cannot_say_is_missing_by_name(text, tmp_path):
    recipe = read(tmp_path, *augmented(text))
    assert recipe.recipe is None
    assert recipe.flags["epochs"] == 15
    assert MISSING[text] in recipe.missing[0].detail
    assert str(recipe.missing[0].place).startswith("cell 3, line 3")


def names(facts):
    return [fact.name for fact in facts]


CASES = {
    "shuffle_off": changed(loaders={"batch_size=64, shuffle=True": "batch_size=64"}),
    "test_is_training_set": changed(loaders={"train=False": "train=True"}),
    "test_images_augmented": changed(
        loaders={
            "train=False, transform=transforms.Compose([": (
                "train=False, transform=transforms.Compose([transforms.RandomRotation(7), "
            )
        }
    ),
    "normalization_differs": changed(
        loaders={f"{NORMALIZE}])),\n    batch_size=1000": f"{OTHERWISE}])),\n    batch_size=1000"}
    ),
    "no_seed": changed(training={"torch.manual_seed(1)\n": ""}),
    "test_loss_of_batches": changed(loops={', reduction="sum"': ""}),
    "cross_entropy_on_log_softmax": changed(
        loops={"F.nll_loss(output, target)\n": "F.cross_entropy(output, target)\n"}
    ),
    "nll_loss_without_log_softmax": changed(net={"F.log_softmax(self.head(x), dim=1)": "self.head(x)"}),
    "rotation_fill": augmented(f"{NORMALIZE}, transforms.RandomRotation(7, fill=(0,))"),
    "depends_on_cuda": changed(
        loaders={"batch_size=64": "batch_size=96 if torch.cuda.is_available() else 64"}
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_facts(name, tmp_path):
    recipe = read(tmp_path, *CASES[name])
    assert name in names(recipe.facts)
    assert not {"shuffle_off", "test_is_training_set", "rotation_fill"} - {name} & {*names(recipe.facts)}


def test_a_loader_made_again_without_augmentation(tmp_path):
    first = augmented(f"transforms.RandomRotation(7), {NORMALIZE}")[2]
    recipe = read(tmp_path, IMPORTS, first, NET, LOADERS, LOOPS, TRAINING)
    assert [(fact.detail, str(fact.place)) for fact in recipe.facts if fact.name == "loaders_redefined"] == [
        ("without the augmentation of cell 2, line 1", "cell 4, line 1")
    ]


def test_both_batch_sizes_where_they_depend_on_cuda(tmp_path):
    arguments = "**(dict(shuffle=True, batch_size=128) if use_cuda else dict(shuffle=True, batch_size=32))"
    texts = changed(loaders={"batch_size=64, shuffle=True": arguments})
    recipe = read(tmp_path, texts[0] + "use_cuda = torch.cuda.is_available()\n", *texts[1:])
    assert [size.value for size in recipe.batch_size] == [128, 32]
    assert recipe.recipe.batch_size == 128


FASTER = SGD.replace("0.01", "0.02")
TRAINED_OTHERWISE = {
    "gradients of several batches": (
        {},
        {"        optimizer.step()": "        if batch_idx % 4 == 3:\n            optimizer.step()"},
        ("optimizer", "it is not one step a batch"),
    ),
    "gradients that are never zeroed": (
        {},
        {"        optimizer.zero_grad()\n": ""},
        ("optimizer", "its gradients are never zeroed"),
    ),
    "images that the loop changes": (
        {},
        {"model(data)\n        loss": "model(data + 0.1 * torch.randn_like(data))\n        loss"},
        ("images", "data + 0.1 * torch.randn_like(data): the loop itself changes the images"),
    ),
    "evaluation for ever": (
        {},
        {"    model.train()\n": ""},
        ("optimizer", "after the first epoch it trains in evaluation mode"),
    ),
    "frozen weights": (
        {"for epoch": "for p in model.body.parameters():\n    p.requires_grad = False\nfor epoch"},
        {},
        ("optimizer", "some weights are not trained"),
    ),
    "weights of its own": (
        {"for epoch": "model.head.weight.data.normal_(0, 0.01)\nfor epoch"},
        {},
        ("initialization", "model.head.weight.data.normal_(0, 0.01)"),
    ),
    "a learning rate by hand": (
        {STEP: f"{STEP}    for group in optimizer.param_groups:\n        group['lr'] = 0.1 / epoch\n"},
        {},
        ("schedule", "the code sets the learning rate itself"),
    ),
    "a penalty": (
        {},
        {"loss.backward": "loss = loss + sum(p.abs().sum() for p in model.parameters()); loss.backward"},
        ("loss", "something is added to it, or it is scaled"),
    ),
    "clipped gradients": (
        {},
        {"optimizer.step": "nn.utils.clip_grad_norm_(model.parameters(), 1); optimizer.step"},
        ("gradients", "clip_grad_norm_: ours are not clipped"),
    ),
    "two optimizers": (
        {"for epoch": f"train(model, device, train_loader, optimizer, 0)\noptimizer = {FASTER}\nfor epoch"},
        {},
        ("optimizer", "another one trains the same network before"),
    ),
    "a schedule that we do not have": (
        {
            SGD: f"{SGD}\nscheduler = optim.lr_scheduler.CyclicLR(optimizer, 0.1, 1)",
            STEP: f"{STEP}    scheduler.step()\n",
        },
        {},
        ("schedule", "CyclicLR: there is no flag for it"),
    ),
    "another optimizer": (
        {SGD: "optim.RMSprop(model.parameters())"},
        {},
        ("optimizer", "RMSprop: ours are SGD, Adam and AdamW"),
    ),
}


@pytest.mark.parametrize("name", TRAINED_OTHERWISE)
def test_training_that_our_recipe_does_not_have(name, tmp_path):
    training, loops, expected = TRAINED_OTHERWISE[name]
    recipe = read(tmp_path, *changed(training=training, loops=loops))
    assert recipe.recipe is None
    assert expected in [(fact.name, fact.detail) for fact in recipe.missing]


SLOWER = """
for rate, count in ((0.02, 6), (0.01, 4), (0.005, 2)):
    optimizer = optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    for epoch in range(count):
        train(model, device, train_loader, optimizer, epoch)
"""


def test_optimizers_one_after_another_are_a_schedule(tmp_path):
    training = TRAINING[: TRAINING.index("optimizer =")]
    recipe = read(tmp_path, IMPORTS, NET, LOADERS, LOOPS, training + SLOWER)
    flags = "--learning_rate=0.02 --schedule=multistep --milestones=6,10 --gamma=0.5"
    assert recipe.recipe.flags == f"--epochs=12 --batch_size=64 {flags}"
    assert [fact.name for fact in recipe.departures] == ["optimizer", "optimizer"]
    uneven = read(tmp_path, IMPORTS, NET, LOADERS, LOOPS, training + SLOWER.replace("0.005", "0.004"))
    assert uneven.recipe is None
    same = read(tmp_path, IMPORTS, NET, LOADERS, LOOPS, training + SLOWER.replace("lr=rate", "lr=0.02"))
    assert same.recipe.flags == "--epochs=12 --batch_size=64 --learning_rate=0.02"


PARTS = {
    "range(55000)": 5000,
    "torch.randperm(len(whole))[:55000]": 5000,
    "np.random.permutation(60000)[10000:].tolist()": 10000,
    "order[:55000]": None,
}


@pytest.mark.parametrize("indices", PARTS)
def test_a_part_of_the_training_images(indices, tmp_path):
    loaders = f"""
    import numpy as np
    whole = datasets.MNIST("data", train=True, transform=transforms.Compose([{NORMALIZE}]))
    part = torch.utils.data.Subset(whole, {indices})
    train_loader = torch.utils.data.DataLoader(part, batch_size=64, shuffle=True)
    test_loader = torch.utils.data.DataLoader(datasets.MNIST("data", train=False), batch_size=64)
    """
    recipe = read(tmp_path, IMPORTS, NET, loaders, LOOPS, TRAINING)
    assert recipe.held_out == (PARTS[indices] or 0)
    assert (recipe.recipe is not None) == (PARTS[indices] is not None)


def test_a_class_that_trains_and_settings_in_another_file(tmp_path):
    trainer = """
    import torch.nn as nn
    from tqdm import tqdm
    from config import *

    class Trainer:
        def __init__(self, model, optimizer, loader, **settings):
            self.model, self.optimizer, self.loader = model, optimizer, loader
            self.criterion = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)

        def run(self, epochs=EPOCHS):
            for epoch in tqdm(range(epochs)):
                self.epoch()

        def epoch(self):
            for data, target in (bar := tqdm(self.loader, desc="train")):
                self.optimizer.zero_grad()
                loss = self.criterion(self.model(data), target)
                loss.backward()
                self.optimizer.step()
                bar.set_postfix(loss=loss.item())
    """
    training = """
    from trainer import Trainer
    model = Net()
    Trainer(model, optim.Adam(model.parameters(), lr=0.003), train_loader).run()
    """
    config = "EPOCHS, SMOOTHING = 12, 0.1\n"
    recipe = read(tmp_path, IMPORTS, NET, LOADERS, training, trainer=trainer, config=config)
    flags = "--optimizer=adam --learning_rate=0.003 --label_smoothing=0.1"
    assert recipe.recipe.flags == f"--epochs=12 --batch_size=64 {flags}"
    assert str(recipe.epochs.place) == "trainer.py, line 12"


def test_held_out_images_and_a_data_set_of_its_own(tmp_path):
    loaders = f"""
    class Transformed:
        def __init__(self, images, transform):
            self.images, self.transform = images, transform
        def __len__(self):
            return len(self.images)
        def __getitem__(self, index):
            image, label = self.images[index]
            if self.transform:
                image = self.transform(image)
            return image, label

    whole = datasets.MNIST("data", train=True, download=True)
    kept, held_out = torch.utils.data.random_split(whole, [55000, 5000])
    kept = Transformed(kept, transforms.Compose([transforms.RandomRotation(7), {NORMALIZE}]))
    train_loader = torch.utils.data.DataLoader(kept, batch_size=64, shuffle=True)
    test_loader = torch.utils.data.DataLoader(held_out, batch_size=64)
    """
    recipe = read(tmp_path, IMPORTS, NET, loaders, LOOPS, TRAINING)
    assert recipe.recipe == Recipe(epochs=15, batch_size=64, rotation=7.0)
    assert recipe.held_out == 5000
    assert "test_is_training_set" not in names(recipe.facts)


def test_images_that_are_not_normalised_are_a_departure(tmp_path):
    recipe = read(tmp_path, *augmented("transforms.ToTensor()"))
    detail = "there is none; here mean 0.1307, std 0.3081"
    assert [(fact.name, str(fact.place), fact.detail) for fact in recipe.departures] == [
        ("Normalize", "cell 3, line 1", detail)
    ]


def test_a_loop_that_may_end_sooner_is_a_departure(tmp_path):
    ending = {STEP: "    if test(model, device, test_loader) > 99.4:\n        break\n"}
    recipe = read(tmp_path, *changed(training=ending))
    assert [(fact.name, str(fact.place)) for fact in recipe.departures] == [("epochs", "cell 5, line 8")]


def test_a_network_without_training_has_no_recipe(tmp_path):
    recipe = read(tmp_path, IMPORTS, NET)
    assert recipe.recipe is None
    assert [fact.name for fact in recipe.missing] == ["epochs", "batch_size", "optimizer", "loss", "images"]


ELSEWHERE = {
    "in a function that is not there": "optimizer = optim.SGD(model.parameters(), lr=0.1)\n"
    "fit(model, optimizer, optim.lr_scheduler.StepLR(optimizer, 3), train_loader)",
    "in other processes": "torch.multiprocessing.Process(target=work, args=(model,)).start()\n"
    "test(model, torch.device('cpu'), test_loader)",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_of_a_training_that_is_not_found_no_mistake_is_named(name, tmp_path):
    training = f"torch.manual_seed(1)\nmodel = Net()\n{ELSEWHERE[name]}"
    recipe = read(tmp_path, IMPORTS, NET, LOADERS, LOOPS, training)
    assert {fact.name for fact in recipe.missing} >= {"epochs", "batch_size"}
    assert recipe.facts == []
