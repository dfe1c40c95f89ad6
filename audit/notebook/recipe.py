"""How a submission trains its network, as our recipe where it can be said whole."""

import ast
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audit.notebook.cells import Fact, Place
from audit.notebook.distortion import is_random, is_unnormalized, normalization, read_distortions
from audit.notebook.functions import printed
from audit.notebook.interpreter import follow
from audit.notebook.library import OBJECTS
from audit.notebook.modules import is_module, walk
from audit.notebook.network import ReadNetwork, is_optimizer, modules_in, trained_module
from audit.notebook.optimization import read_optimizer, read_schedule, schedules, set_by_hand
from audit.notebook.state import Run
from audit.notebook.training import (
    Call,
    Found,
    Images,
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
from audit.notebook.values import Event, Instance, Loop, Opaque, Site
from cnn.architecture import BatchNorm, ChannelDropout, Dropout, Layer, Residual
from cnn.recipe import Recipe
from harness.errors import UserError


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
      facts: what is worth a word, each a key of mistakes.MISTAKES, REMARKS or SILENT.
      rates: the epochs' learning rates, where each has one and the code tells it; otherwise empty.
      fields: what the code computes and calls a receptive field, with places, by its name; by the empty name
        the lines that it prints.
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
    rates: tuple[float, ...] = ()
    fields: Mapping[str, Sequence[tuple[Place, int | str]]] = field(default_factory=dict)


_SETTINGS = ("lr", "momentum", "weight_decay")
_NUMBER = re.compile(r"\d+\.?\d*(?:e-?\d+)?|\.\d+", re.I)
_SETTING = re.compile(
    r"(?<![a-z_])(?:(?P<lr>lr|learning[ _-]?rate)|(?P<momentum>momentum)|(?P<weight_decay>weight[ _-]?decay)|"
    r"(?P<epochs>(?:num_|n_)?epochs)|(?P<batch_size>(?:train_)?batch[ _-]?size))"
    rf"\W{{0,4}}(?:is|of)?\W{{0,3}}(?<![.\d])(?:{_NUMBER.pattern})(?![\w%/])",
    re.I,
)
_LONGEST = 2_000  # characters of what is printed at once
_SEEDS = ("manual_seed", "seed_everything")
_LOADING = ("load_state_dict", "share_memory")
_PRECISIONS = ("half", "double", "bfloat16")
_MOVES = ("to", "cuda", "cpu", "float", "requires_grad_", "type", "contiguous", "long", "detach", "clone")


def read_recipe(run: Run, network: ReadNetwork | None = None) -> ReadRecipe:
    """How a submission trains whose code has been followed.

    Args:
      run: the code.
      network: what network.read_network read of it; None takes the network that was trained, whatever it is.

    Raises:
      UserError: the code cannot be followed to its end.
    """
    others = _Reader(follow(run.source, has_cuda=False), network) if run.asked_for_cuda else None
    return _Reader(run, network).read(others)


class _Reader:
    """Reads one run of the code; what it finds is collected on the way."""

    def __init__(self, run: Run, network: ReadNetwork | None) -> None:
        model = trained_module(run)
        if network is not None and not (isinstance(model, Instance) and model.cls.name == network.class_name):
            named = [each for each in run.modules if each.cls.name == network.class_name]
            model = named[-1] if named else None
        self.run, self.network = run, network
        self.training: Training = training_of(run, model)
        self.looped, self.evaluated = self.training.module, self.training.evaluated  # see _networks
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
        schedule, stepped = read_schedule(self.training, self.found)
        loss = self._loss()
        train = self._images()
        self._networks()
        test = self._evaluation(train)
        self._modes()
        self._printed(optimizer)
        self._rest()
        if schedule is None and epochs is not None and "learning_rate" in self.found.flags:
            self.found.rates = (self.found.flags["learning_rate"],) * epochs.value
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
            self.found.rates,
            self._fields(),
        )

    def _epochs(self) -> Setting | None:
        training = self.training
        if not training.loops:
            absent = "".join(
                f"; {each.replace('.', '/')}.py is not beside it" for each in sorted(self.run.absent)
            )
            self.found.lacks("epochs", self.found.start, f"no loop over the training images is found{absent}")
            return None
        within = [event for event in training.steps if event.loops]
        outer = [loop for loop in within[-1].loops if loop.known]
        last = training.loops[-1]
        place = outer[0].site.place if outer else last.site.place
        repeated = [loop for loop in within[-1].loops if not loop.known]
        if len(repeated) > 1:
            self.found.lacks("epochs", repeated[0].site.place, "the number of turns is not known")
            return None
        inside = [event for _, event in training.of_loop(last)]
        trained = max(index for index, event in enumerate(inside) if event in training.steps)
        after = inside[trained:]  # where a turn that ends sooner has trained on its batch
        ends = {
            event.site: event
            for event in training.events
            if event.what.kind == "end" and not (event.what.name == "continue" and event in after)
        }
        for site, event in ends.items():
            if event.loops[-1] is last:
                self.found.lacks("images", site.place, "the loop does not train on every batch")
            elif (
                outer and event.loops[-1] is outer[0] and event.conditional and event.what.name != "continue"
            ):
                self.found.differs("epochs", site.place, "the loop may end sooner")
        self._each_step()
        epochs = len(training.main_loops)
        if not all(self._is_main(each) for each in training.loaders):
            self.found.lacks("images", place, "not all epochs are over the same images")
        self.found.flags["epochs"] = epochs
        return Setting(epochs, place)

    def _is_main(self, loader: Loader | None) -> bool:
        """Whether a loop's loader has the images and the batches that the training's has."""
        main = self.training.loader
        if loader is None or main is None or loader.site != main.site:
            return loader is main
        both = [transforms_of(each.images.transform, each.images.site) for each in (loader, main)]
        return both[0] == both[1]

    def _each_step(self) -> None:
        """Whether each batch is one step from zeroed gradients, on its images as they come."""
        training = self.training
        for event in training.steps:
            loop = next((each for each in reversed(event.loops) if not each.known), None)
            if loop is None and not _has_gradients(training, event):
                continue
            if loop is None or event.conditional or sum(loop in each.loops for each in training.steps) > 1:
                self.found.lacks("optimizer", event.site.place, "it is not one step a batch")
                break
        self._gradients(training.of_loop(training.main_loops[-1]))
        change = self._changed(training.main_loops[-1])
        if change is not None:
            detail = f"{change.text}: the loop itself changes the images"
            self.found.lacks("images", change.place, detail)

    def _changed(self, loop: Loop) -> Site | None:
        """Where a loop changes the images before the network gets them; None if it does not."""
        for _, event in self.training.of_loop(loop):
            if event.what.kind == "call" and is_module(event.what.of):
                for each in _until_items(event.what):
                    if each.method not in _MOVES and each.site is not None:
                        return each.site
        return None

    def _gradients(self, turn: Sequence[tuple[int, Event]]) -> None:
        """Where the gradients are zeroed in a turn of the loop over batches."""
        training = self.training
        places: dict[str, list[int]] = {"zeroed": [], "backward": [], "step": []}
        for place, event in turn:
            owner = event.what.of.of if event.what.method else None
            of_other = isinstance(owner, Opaque) and is_optimizer(owner) and owner is not training.optimizer
            zeroes = event.what.method in ("zero_", "fill_", "detach_") and _is_gradient(owner)
            if event.key == "grad" or zeroes or (event.what.method == "zero_grad" and not of_other):
                places["zeroed"].append(place)
            elif event.what.method == "backward":
                places["backward"].append(place)
            elif any(event is step for step in training.steps):
                places["step"].append(place)
        if training.others or not places["step"]:
            return
        where = training.events[places["step"][-1]].site.place
        if not places["zeroed"]:
            self.found.lacks("optimizer", where, "its gradients are never zeroed")
            self.found.facts.append(Fact("gradients_never_zeroed", where))
        elif places["backward"] and max(places["backward"]) < min(places["zeroed"]) < max(places["step"]):
            self.found.lacks("optimizer", where, "its gradients are zeroed before it takes them")
            self.found.facts.append(Fact("zeroed_before_step", where))

    def _printed(self, optimizer: Call | None) -> None:
        """Whether what the code prints of its settings is what some optimizer or loader in it has."""
        if optimizer is None:
            return
        made = [event.what for event in self.training.events if is_optimizer(event.what)]
        given = [loader.arguments.get("batch_size", 1) for loader in loaders(self.training.events, self.run)]
        has: dict[str, list[Any]] = {
            name: [
                default(each, name) if each.function in OBJECTS else each.kwargs.get(name, each)
                for each in made
            ]
            for name in _SETTINGS
        }
        has["lr"] += [*self.found.rates, self.found.flags.get("learning_rate")]
        for each in schedules(self.training):  # max_lr and the like
            has["lr"] += [value for value in _given(each) if isinstance(value, int | float)]
        has |= {"batch_size": given, "epochs": [self.found.flags.get("epochs")]}
        if None not in has["momentum"]:
            has["momentum"].append(self.found.flags.get("momentum"))
        said: dict[str, list[tuple[Place, str]]] = {}
        for event in self.training.events:
            for found in _SETTING.finditer(_said(event)[:_LONGEST]):
                said.setdefault(str(found.lastgroup), []).append((event.site.place, found[0]))
        for name, lines in said.items():
            values = [float(_NUMBER.findall(words)[-1]) for _, words in lines]
            known = [value for value in has[name] if isinstance(value, int | float)]
            unknown = len(known) < len([value for value in has[name] if value is not None])
            by_hand = name in _SETTINGS and set_by_hand(self.training) is not None
            if (
                not unknown
                and not by_hand
                and not any(math.isclose(a, b, rel_tol=0.01) for a in values for b in known)
            ):
                has_words = f"it has {known[0]:g}" if known else "it has none"
                detail = f"{lines[0][1].strip()}, where {has_words}"
                self.found.facts.append(Fact("printed_settings", lines[0][0], detail))

    def _fields(self) -> dict[str, list[tuple[Place, int | str]]]:
        """What the code computes and names receptive fields, or prints, where it has one network."""
        inside = {id(part) for each in self.run.modules for part in walk(each) if part is not each}
        fields: dict[str, list[tuple[Place, int | str]]] = {}
        if len({each.cls for each in self.run.modules if id(each) not in inside}) == 1:
            for event in self.run.events:
                if event.what.kind == "field":
                    fields.setdefault(event.what.name, []).append((event.site.place, event.what.args[0]))
                elif words := _said(event):
                    fields.setdefault("", []).append((event.site.place, words))
        return fields

    def _networks(self) -> None:
        """Whether the network that is trained is the one that gets the images, in training and evaluation."""
        training = self.training
        module, steps = training.module, training.steps
        if module is None or not training.loops:
            return
        called = [event for _, event in training.of_loop(training.main_loops[-1]) if is_module(event.what.of)]
        called = [event for event in called if event.what.kind == "call"]
        if called and not any(_share(event.what.of, module) for event in called):
            detail = f"{called[0].site.text}, while the optimizer was given another {_class_of(module)}"
            self.found.facts.append(Fact("optimizer_of_other_model", called[0].site.place, detail))
            self.found.lacks("optimizer", steps[-1].site.place, "it has another network than the loop trains")
            self.looped = called[0].what.of
            self.evaluated = tuple(each for each in training.elsewhere if each.module is self.looped)
            return
        elsewhere = [each for each in training.elsewhere if not _share(each.module, module)]
        if training.evaluated or not elsewhere or len(elsewhere) < len(training.elsewhere):
            return
        event = training.events[elsewhere[-1].start]
        other = elsewhere[-1].module
        made = any(other is each for each in self.run.modules)  # no copy of the trained one
        touched = any(
            any(each is other for each in modules_in(event.what))
            for event in training.events
            if event.what.kind == "call"
            and (is_optimizer(event.what) or event.what.method in _LOADING or event.what.method.endswith("_"))
        )
        if made and not touched:
            detail = f"{event.site.text} is another {_class_of(other)}, which nothing trains"
            self.found.facts.append(Fact("other_model_evaluated", event.site.place, detail))
            self.evaluated = tuple(elsewhere)

    def _modes(self) -> None:
        """Whether the network trains in training mode and is evaluated in evaluation mode."""
        training = self.training
        if self.network is not None and not any(_has_modes(each.layer) for each in self.network.layers):
            return
        modes = training.modes(self.looped)
        places = {id(event): place for place, event in enumerate(training.events)}
        steps = [
            event for event in training.steps if any(loop in event.loops for loop in training.main_loops)
        ]
        wrong = next((event for event in steps if modes[places[id(event)]] is False), None)
        if wrong is not None:
            before = training.events[: places[id(wrong)]]
            place = [event.site.place for event in before if event.what.method in ("train", "eval")][-1]
            self.found.facts.append(Fact("stays_in_evaluation", place))
            self.found.lacks("optimizer", place, "after the first epoch it trains in evaluation mode")
        parts = list(walk(training.module))[1:] if is_module(training.module) else []
        for event in training.events:
            if event.what.method == "eval" and any(event.what.of.of is each for each in parts):
                self.found.lacks("optimizer", event.site.place, "a part of it is in evaluation mode")
                break
        on_test = [each for each in self.evaluated if each.loader.images.is_training is False]
        for each in (on_test or list(self.evaluated))[-1:]:
            mode = training.modes(each.module)[each.start]
            if mode is True and training.loops:  # else what seems evaluated may be the training
                self.found.facts.append(Fact("no_eval_mode", training.events[each.start].site.place))

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
        if training.loops and len({each.site for each in backward}) > 1:
            self.found.lacks("loss", event.site.place, "backward is called for several losses")
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
        target = call.args[1] if len(call.args) > 1 else call.kwargs.get("target")
        for each in _until_items(Opaque("call", "", args=(target,))):
            if each.method not in (*_MOVES, "view", "reshape", "squeeze", "flatten", "int"):
                where = each.site.place if each.site else output.place
                self.found.lacks("loss", where, f"{each.name}: the loop itself changes the labels")
                break
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
        on_test = [each for each in self.training.loaders if each and each.images.is_training is False]
        for each in on_test[:1]:
            self.found.facts.append(Fact("trained_on_test_images", each.site.place))
        if loader.cut is not None and loader.cut.site is not None:
            detail = f"{loader.cut.site.text}: not all of them in each epoch"
            self.found.lacks("images", loader.cut.site.place, detail)
        if images.changes_labels:
            self.found.lacks("images", place, "target_transform changes their labels")
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
        in_loop = any(map(self._changed, self.training.main_loops[-1:]))  # which may normalise them
        read_distortions(calls, place, self.found, may_normalize=in_loop)
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
        evaluated = self.evaluated
        if not evaluated:
            return None
        on_test = [each for each in evaluated if each.loader.images.is_training is False]
        loop, loader, *_ = (on_test or list(evaluated))[-1]
        if not on_test and all(self._is_trained_on(each.loader.images) for each in evaluated):
            self.found.facts.append(Fact("test_is_training_set", loader.site.place))
        calls = transforms_of(loader.images.transform, loader.images.site or loader.site)
        if calls is not None and is_random(calls):
            self.found.facts.append(Fact("test_images_augmented", loader.site.place))
        if calls is not None and train is not None:
            both = normalization(train), normalization(calls)
            known = [
                each is not None or is_unnormalized(of) for each, of in zip(both, (train, calls), strict=True)
            ]
            changed = None in both and any(map(self._changed, (loop, *self.training.main_loops[-1:])))
            if both[0] != both[1] and all(known) and not changed:
                words = ["not at all" if each is None else str(each) for each in both]
                detail = f"training {words[0]}, test {words[1]}"
                self.found.facts.append(Fact("normalization_differs", loader.site.place, detail))
        self._mean_loss(loop)
        return calls

    def _is_trained_on(self, images: Images) -> bool:
        """Whether images are among those that are trained on."""
        main = self.training.loader
        same = main is not None and images.data is not None and images.data is main.images.data
        return images.is_training is True and (images.held_out == 0 or same)

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
            for each in made_of(event.what.args[0], _is_sum):
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
        training, found, events = self.training, self.found, self.training.events

        def first(holds: Callable[[Event, Opaque, str], Any]) -> list[Event]:
            return [each for each in events if holds(each, each.what, each.what.method)][:1]

        seeds = first(lambda _event, what, _: what.function.endswith(_SEEDS))
        for event in seeds:
            value = plain(event.what.args[0]) if event.what.args else ""
            found.facts.append(Fact("seed", event.site.place, str(value)))
        if not seeds:
            found.facts.append(Fact("no_seed", found.start))
        for event in itertools.takewhile(lambda each: each not in training.steps[:1], events):
            if event.what.method == "load_state_dict" and not event.conditional:
                found.lacks("initialization", event.site.place, "it begins from weights that were stored")
        for event in first(lambda _, what, method: method in _PRECISIONS and is_module(what.of.of)):
            found.differs("precision", event.site.place, f"{event.what.method}; here float32")
        for event in first(lambda _event, what, _: what.function.startswith("torch.nn.init.")):
            name = event.what.function.removeprefix("torch.nn.init.")
            found.lacks("initialization", event.site.place, name)
        for event in first(
            lambda each, what, _: "clip_grad" in what.function and training.is_in_training(each)
        ):
            name = event.what.function.rpartition(".")[2]
            found.lacks("gradients", event.site.place, f"{name}: ours are not clipped")
        for event in first(
            lambda each, what, method: "requires_grad" in (each.key, method[:-1]) and any(modules_in(what))
        ):
            found.lacks("optimizer", event.site.place, "some weights are not trained")
        for event in first(lambda each, what, _: _changes_in_place(each) and any(modules_in(what.of))):
            found.lacks("initialization", event.site.place, event.site.text)
        for event in first(lambda _event, what, _: what.function.endswith((".autocast", ".GradScaler"))):
            found.differs("precision", event.site.place, "mixed precision; here float32")
        for event in first(lambda _event, what, _: what.function.startswith("torch.optim.swa_utils.")):
            found.lacks("ema_decay", event.site.place, "an average of weights of PyTorch's")


def _changes_in_place(event: Event) -> bool:
    method = event.what.method
    return event.key == "data" or (method.endswith("_") and method != "requires_grad_" and event.key is None)


def _given(call: Opaque) -> tuple[Any, ...]:
    return (*call.args, *call.kwargs.values())


def _has_gradients(training: Training, step: Event) -> bool:
    """Whether anything was differentiated before a step."""
    before = itertools.takewhile(lambda event: event is not step, training.events)
    return any(event.what.method == "backward" for event in before)


def _until_items(call: Opaque) -> Iterator[Opaque]:
    """The calls and operations that a call's arguments went through since they were items of a loop."""
    left = list(_given(call))
    for _ in range(100):
        each = left.pop() if left else None
        if isinstance(each, Opaque) and each.kind in ("call", "operation"):
            yield each
            owner = each.of.of if each.method else None
            left += [owner] if each.method in _MOVES else [owner, *_given(each)]


def _is_sum(value: Opaque) -> bool:
    """Whether what a value was made of is in its own unit: not times the images of a batch."""
    node = value.site.node if value.site is not None else None
    return not isinstance(getattr(node, "op", None), ast.Mult)


def _said(event: Event) -> str:
    """What an event prints; empty for all others."""
    says = event.what.function == "print" or event.what.method in ("info", "write")  # of a logger, of tqdm
    return printed(event.what.args) if says else ""


def _is_gradient(value: Any) -> bool:
    return isinstance(value, Opaque) and value.kind == "attribute" and value.name.endswith(".grad")


def _share(first: Any, other: Any) -> bool:
    """Whether one of two modules is the other, or holds it or a part of it."""
    inside = {id(each) for each in walk(other)}
    return any(id(each) in inside for each in walk(first))


def _class_of(module: Any) -> str:
    return module.cls.name if isinstance(module, Instance) else str(module.kind)


def _has_modes(layer: Layer) -> bool:
    """Whether a layer does something else in evaluation than in training."""
    inside = layer.layers if isinstance(layer, Residual) else ()
    return isinstance(layer, BatchNorm | Dropout | ChannelDropout) or any(map(_has_modes, inside))
