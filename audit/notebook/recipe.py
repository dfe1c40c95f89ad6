"""How a submission trains its network, as our recipe where it can be said whole."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audit.notebook.cells import Fact, Place, Source
from audit.notebook.distortion import Distortions, distortions, is_random, normalization
from audit.notebook.interpreter import follow
from audit.notebook.network import ReadNetwork, module_in, trained_module
from audit.notebook.optimization import read_optimizer, read_schedule
from audit.notebook.state import Run
from audit.notebook.training import (
    Call,
    Found,
    Loader,
    Setting,
    Training,
    batch_size_of,
    call_of,
    default,
    loaders,
    loss_in,
    made_of,
    plain,
    training_of,
    transforms_of,
)
from audit.notebook.values import Instance, Loop, Opaque
from cnn.recipe import Recipe
from harness.errors import UserError

FACTS = {
    "schedule_never_stepped": "a schedule is made and its step is never called",
    "one_cycle_stepped_per_epoch": "OneCycleLR counts batches and is stepped after epochs",
    "shuffle_off": "the training images come in the same order in every epoch",
    "test_is_training_set": "what is evaluated are training images",
    "test_images_augmented": "the test images are distorted at random",
    "rotation_fill": "the rotation fills its corners with a value that is not the background",
    "normalization_differs": "training and test images are normalised differently",
    "loaders_redefined": "the training loader is made again, otherwise",
    "no_seed": "no seed is set",
    "seed": "a seed is set",
    "cross_entropy_on_log_softmax": "cross-entropy takes the logarithm of the softmax a second time",
    "nll_loss_without_log_softmax": "nll_loss gets no log_softmax",
    "test_loss_of_batches": "the sum of mean losses of batches is divided by the number of images",
    "stays_in_evaluation": "evaluation switches dropout and batch norm, and no train() switches them back",
    "depends_on_cuda": "the value depends on whether there is a GPU",
}
"""What each fact's name means."""


@dataclass(frozen=True)
class ReadRecipe:
    """How a submission trains.

    Attributes:
      recipe: ours, where all of it can be said; None where something is missing.
      flags: the fields of cnn.recipe.Recipe that could be read.
      held_out: training images that are not trained on, for --validation_size.
      missing: what our recipe cannot say or the code does not tell, in a reader's words; names are fields of
        cnn.recipe.Recipe, or what the thing is called in PyTorch.
      departures: what the recipe says otherwise than the code, though not by much.
      epochs: passes over the training images that the code asks for; None where it is not known.
      batch_size: images a step: with a GPU and, where that differs, without one. Empty where not known.
      optimizer: the call that made it; None where there is none.
      schedule: the call that made it; None where there is none.
      stepped: "never", "epoch" or "batch"; empty without a schedule.
      loss: the name of the function, and where it is called.
      train_transforms: of the training images, in order; None where they are not known.
      test_transforms: of the images that are evaluated; None where they are not known.
      facts: what is worth a word, each named as in FACTS.
    """

    recipe: Recipe | None
    flags: Mapping[str, Any]
    held_out: int
    missing: tuple[Fact, ...]
    departures: tuple[Fact, ...]
    epochs: Setting | None
    batch_size: tuple[Setting, ...]
    optimizer: Call | None
    schedule: Call | None
    stepped: str
    loss: Call | None
    train_transforms: tuple[Call, ...] | None
    test_transforms: tuple[Call, ...] | None
    facts: tuple[Fact, ...]


_MOVES = ("to", "cuda", "cpu", "float", "requires_grad_", "type")


def read_recipe(source: Source, network: ReadNetwork | None = None) -> ReadRecipe:
    """How a submission trains.

    Args:
      source: the file.
      network: what network.read_network read of it; None takes the network that was trained, whatever it is.

    Raises:
      UserError: the code cannot be followed to its end.
    """
    run = follow(source)
    recipe = _Reader(run, network)
    others = _Reader(follow(source, has_cuda=False), network) if run.asked_for_cuda else None
    return recipe.read(others)


class _Reader:
    """Reads one run of the code; what it finds is collected on the way."""

    def __init__(self, run: Run, network: ReadNetwork | None) -> None:
        model = trained_module(run)
        if network is not None and not (isinstance(model, Instance) and model.cls.name == network.class_name):
            named = [each for each in run.modules if each.cls.name == network.class_name]
            model = named[-1] if named else None
        self.run, self.network = run, network
        self.training: Training = training_of(run, model)
        self.found = Found(Place(run.source.path.name, 1 if run.source.is_notebook else None, 1))
        self.held_out = 0

    def read(self, without_cuda: "_Reader | None") -> ReadRecipe:
        """All of it.

        Args:
          without_cuda: the reader of the code on a machine without a GPU; None where it makes no difference.
        """
        epochs = self._epochs()
        sizes = [batch_size_of(each.training) for each in (self, without_cuda) if each is not None]
        batch_size = tuple(size for size in sizes if size is not None)
        if len(batch_size) == 2 and batch_size[0].value == batch_size[1].value:
            batch_size = batch_size[:1]
        if len(batch_size) == 2:
            detail = f"batches of {batch_size[0].value} with a GPU, of {batch_size[1].value} without"
            self.found.facts.append(Fact("depends_on_cuda", batch_size[0].place, detail))
        if batch_size:
            self.found.flags["batch_size"] = batch_size[0].value
        else:
            self.found.lacks("batch_size", self.found.start, "it is not known without running the code")
        optimizer = read_optimizer(self.training, self.found)
        schedule, stepped = read_schedule(self.training, self.found, epochs)
        loss = self._loss()
        train = self._images()
        test = self._evaluation(train)
        self._rest()
        recipe = None
        if not self.found.missing:
            try:
                recipe = Recipe(**self.found.flags)
            except UserError as error:
                self.found.lacks("recipe", self.found.start, str(error))
        return ReadRecipe(
            recipe,
            self.found.flags,
            self.held_out,
            tuple(self.found.missing),
            tuple(self.found.departures),
            epochs,
            batch_size,
            optimizer,
            schedule,
            stepped,
            loss,
            train,
            test,
            tuple(sorted(self.found.facts, key=lambda fact: (fact.place.cell or 0, fact.place.line))),
        )

    def _epochs(self) -> Setting | None:
        training = self.training
        if not training.loops:
            self.found.lacks("epochs", self.found.start, "no loop over the training images is found")
            return None
        within = [event for event in training.steps if event.loops]
        outer = [loop for loop in within[-1].loops if loop.known]
        last = training.loops[-1]
        place = outer[0].site.place if outer else last.site.place
        repeated = [loop for loop in within[-1].loops if not loop.known]
        if len(repeated) > 1:
            self.found.lacks("epochs", repeated[0].site.place, "the number of turns is not known")
            return None
        for loop in outer[:1]:
            for node in _breaks(loop):
                where = Place(loop.site.unit.file, loop.site.unit.cell, node.lineno)
                self.found.differs("epochs", where, "the loop may end sooner")
        self._each_step()
        self.found.flags["epochs"] = len(training.loops)
        return Setting(len(training.loops), place)

    def _each_step(self) -> None:
        """Whether each batch is one step from zeroed gradients, on its images as they come."""
        training = self.training
        for event in training.steps:
            loop = next(each for each in reversed(event.loops) if not each.known)
            if event.conditional or sum(loop in each.loops for each in training.steps) > 1:
                self.found.lacks("optimizer", event.site.place, "it is not one step a batch")
                break
        inside = [event for event in training.events if training.is_in_training(event)]
        if not any(event.what.method == "zero_grad" for event in inside):
            self.found.lacks("optimizer", training.steps[-1].site.place, "its gradients are never zeroed")
        for event in inside:
            if event.what.kind == "call" and isinstance(event.what.of, Instance) and event.what.of.is_module:
                changes = [each for each in _until_items(event.what) if each.method not in _MOVES]
                if changes and changes[0].site is not None:
                    detail = f"{changes[0].site.text}: the loop itself changes the images"
                    self.found.lacks("images", changes[0].site.place, detail)
                    break
        modes = [event for event in training.events if event.what.method in ("train", "eval") and event.loops]
        if modes and all(event.what.method == "eval" or event.what.args == (False,) for event in modes):
            self.found.facts.append(Fact("stays_in_evaluation", modes[0].site.place))
            self.found.lacks(
                "optimizer", modes[0].site.place, "after the first epoch it trains in evaluation mode"
            )

    def _loss(self) -> Call | None:
        training = self.training
        backward = [
            event
            for event in training.events
            if event.what.method == "backward" and (training.is_in_training(event) or not training.loops)
        ]
        if not backward:
            self.found.lacks("loss", self.found.start, "no call of backward is found in the training")
            return None
        event = backward[-1]
        what = event.what.of.of
        found = loss_in(what)
        if found is None:
            self.found.lacks("loss", event.site.place, "it is neither nll_loss nor cross_entropy")
            return None
        call, settings = found
        if call is not what and not (isinstance(what, Opaque) and what.method == "scale"):
            self.found.lacks("loss", event.site.place, "something is added to it, or it is scaled")
        name = settings.function.rpartition(".")[2]
        made = call_of(settings)
        output = Call(
            name,
            {key: each for key, each in made.arguments.items() if key not in ("input", "target")},
            made.place,
        )
        for argument in ("weight", "reduction", "size_average"):
            if default(settings, argument) not in (None, "mean"):
                self.found.lacks("loss", output.place, f"{argument}={plain(default(settings, argument))}")
        smoothing = default(settings, "label_smoothing")
        if isinstance(smoothing, int | float) and smoothing > 0:
            self.found.flags["label_smoothing"] = float(smoothing)
        self._fits_output(name, call.site.place if call.site else output.place)
        return output

    def _fits_output(self, name: str, place: Place) -> None:
        if self.network is None:
            return
        ends = {fact.name for fact in self.network.facts}
        is_cross_entropy = name in ("cross_entropy", "CrossEntropyLoss")
        if "softmax_output" in ends:
            self.found.lacks("loss", place, f"{name} gets a softmax")
        elif is_cross_entropy and "log_softmax" in ends:
            self.found.facts.append(Fact("cross_entropy_on_log_softmax", place))
        elif not is_cross_entropy and "log_softmax" not in ends:
            self.found.facts.append(Fact("nll_loss_without_log_softmax", place))
            self.found.lacks("loss", place, f"{name} gets no log_softmax")

    def _images(self) -> tuple[Call, ...] | None:
        loader = self.training.loader
        if loader is None:
            self.found.lacks("images", self.found.start, "which images are trained on is not known")
            return None
        place, images = loader.site.place, loader.images
        if images.is_training is None:
            self.found.lacks("images", place, "they are not plainly MNIST's")
        elif not images.is_training:
            self.found.lacks("images", place, "it trains on the test images")
        elif images.held_out is None:
            self.found.lacks("images", place, "it trains on a part of the training images that is not known")
        elif images.held_out:
            detail = f"{images.held_out:,} training images of its own choice are held out; here the last ones"
            self.found.differs("images", place, detail)
            self.held_out = images.held_out
        self._order(loader)
        calls = transforms_of(images.transform, images.site or loader.site)
        if calls is None:
            self.found.lacks("transform", place, "it is not known without running the code")
            return None
        distorted: Distortions = distortions(calls, place)
        self.found.flags |= distorted.flags
        self.found.missing += distorted.missing
        self.found.departures += distorted.departures
        self.found.facts += distorted.facts
        self._redefined(loader, calls)
        return calls

    def _order(self, loader: Loader) -> None:
        given, place = loader.arguments, loader.site.place
        if not given:
            self.found.lacks("images", place, "DataLoader is called with what is not known here")
        elif given.get("sampler") is not None or given.get("batch_sampler") is not None:
            self.found.lacks("images", place, "a sampler of its own")
        elif not isinstance(given.get("shuffle", False), bool | None):
            self.found.lacks(
                "images", place, "whether they are shuffled is not known without running the code"
            )
        elif not given.get("shuffle", False):
            self.found.facts.append(Fact("shuffle_off", place))
            self.found.lacks("images", place, "they are not shuffled")
        if given.get("drop_last") is True:
            self.found.differs("images", place, "the last, smaller batch is left out")

    def _redefined(self, used: Loader, calls: tuple[Call, ...]) -> None:
        """Whether an earlier loader of the training images distorts them, and the one in use does not."""
        if is_random(calls):
            return
        for loader in loaders(self.training.events, self.run):
            if loader.site == used.site or loader.images.is_training is not True:
                continue
            other = transforms_of(loader.images.transform, loader.site)
            if other is not None and is_random(other):
                detail = f"without the augmentation of {loader.site.place}"
                self.found.facts.append(Fact("loaders_redefined", used.site.place, detail))
                return

    def _evaluation(self, train: tuple[Call, ...] | None) -> tuple[Call, ...] | None:
        evaluated = self.training.evaluated
        if not evaluated:
            return None
        on_test = [each for each in evaluated if each[1].images.is_training is False]
        loop, loader = (on_test or list(evaluated))[-1]
        if not on_test and all(
            each.images.is_training and each.images.held_out == 0 for _, each in evaluated
        ):
            self.found.facts.append(Fact("test_is_training_set", loader.site.place))
        calls = transforms_of(loader.images.transform, loader.images.site or loader.site)
        if calls is not None and is_random(calls):
            self.found.facts.append(Fact("test_images_augmented", loader.site.place))
        if calls is not None and train is not None:
            both = normalization(train), normalization(calls)
            if None not in both and both[0] != both[1]:
                detail = f"training {both[0]}, test {both[1]}"
                self.found.facts.append(Fact("normalization_differs", loader.site.place, detail))
        self._mean_loss(loop)
        return calls

    def _mean_loss(self, loop: Loop) -> None:
        """Whether the mean losses of batches are divided by the number of images."""
        called = {
            id(call): settings
            for event in self.training.events
            if any(each is loop for each in event.loops) and (found := loss_in(event.what))
            for call, settings in [found]
        }
        for event in self.training.events:
            if event.what.kind != "operation" or event.what.args[1:] != (10_000,):
                continue
            for each in made_of(event.what.args[0]):
                if id(each) in called:
                    settings = called[id(each)]
                    sums = default(each if each is settings else settings, "reduction") == "sum"
                    sums = sums or each.kwargs.get("reduction") == "sum"
                    sums = sums or default(settings, "size_average") is False
                    if not sums:
                        self.found.facts.append(Fact("test_loss_of_batches", event.site.place))
                    return

    def _rest(self) -> None:
        """Seeds, initialisations, clipped gradients and the like."""
        seeds = [event for event in self.training.events if event.what.function.endswith("manual_seed")]
        if seeds:
            value = plain(seeds[0].what.args[0]) if seeds[0].what.args else ""
            self.found.facts.append(Fact("seed", seeds[0].site.place, str(value)))
        else:
            self.found.facts.append(Fact("no_seed", self.found.start))
        for event in self.training.events:
            name = event.what.function
            if name.startswith("torch.nn.init."):
                self.found.lacks("initialization", event.site.place, f"{name.removeprefix('torch.nn.init.')}")
                break
        for event in self.training.events:
            name = event.what.function.rpartition(".")[2]
            if name.startswith("clip_grad") and self.training.is_in_training(event):
                self.found.lacks("gradients", event.site.place, f"{name}: ours are not clipped")
                break
        for event in self.training.events:
            freezes = event.key == "requires_grad" or event.what.method == "requires_grad_"
            if freezes and module_in(event.what) is not None:
                self.found.lacks("optimizer", event.site.place, "some weights are not trained")
                break
        for event in self.training.events:
            method = event.what.method
            in_place = method.endswith("_") and method != "requires_grad_" and event.key is None
            if (in_place or event.key == "data") and module_in(event.what.of) is not None:
                self.found.lacks("initialization", event.site.place, event.site.text)
                break
        for event in self.training.events:
            if event.what.function.rpartition(".")[2] in ("autocast", "GradScaler"):
                self.found.differs("precision", event.site.place, "mixed precision; here float32")
                break
        for event in self.training.events:
            if event.what.function.startswith("torch.optim.swa_utils."):
                self.found.lacks("ema_decay", event.site.place, "an average of weights of PyTorch's")
                break


def _given(call: Opaque) -> tuple[Any, ...]:
    return (*call.args, *call.kwargs.values())


def _until_items(call: Opaque) -> Iterator[Opaque]:
    """The calls and operations that a call's arguments went through since they were items of a loop."""
    left = list(_given(call))
    for _ in range(100):
        each = left.pop() if left else None
        if isinstance(each, Opaque) and each.kind in ("call", "operation"):
            yield each
            owner = each.of.of if each.method else None
            left += [owner] if each.method in _MOVES else [owner, *_given(each)]


def _breaks(loop: Loop) -> list[ast.Break]:
    """The statements that end a loop, without those of loops inside."""
    found: list[ast.Break] = []
    left: list[ast.AST] = [*getattr(loop.site.node, "body", [])]
    while left:
        node = left.pop()
        if isinstance(node, ast.Break):
            found.append(node)
        if not isinstance(node, ast.For | ast.While | ast.FunctionDef | ast.ClassDef | ast.Lambda):
            left += ast.iter_child_nodes(node)
    return found
