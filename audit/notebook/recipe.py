"""How a submission trains its network, as our recipe where it can be said whole."""

import ast
import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from audit.notebook.cells import Place
from audit.notebook.datasets import default
from audit.notebook.distortion import is_random, is_unnormalized, normalization, read_distortions
from audit.notebook.functions import printed
from audit.notebook.interpreter import follow
from audit.notebook.library import OBJECTS
from audit.notebook.modules import is_module, walk
from audit.notebook.natives import name_of
from audit.notebook.network import ReadNetwork, is_optimizer, modules_in, no_parts, trained_module
from audit.notebook.optimization import read_optimizer, read_schedule, schedules, set_by_hand
from audit.notebook.state import Run
from audit.notebook.training import (
    Evaluation,
    Images,
    Loader,
    ReadRecipe,
    Setting,
    Training,
    batch_size_of,
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
    """How a submission trains its network, or, where that is not known, whatever it trains."""
    others = _Reader(follow(run.source, has_cuda=False), network) if run.asked_for_cuda else None
    return _Reader(run, network).read(others.training if others else None)


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
        self.found = ReadRecipe(Place(run.source.path.name, 1 if run.source.is_notebook else None, 1))

    def read(self, without_cuda: Training | None) -> ReadRecipe:
        """All of it; also given is the training of a machine without a GPU, where it may be another."""
        found = self.found
        self._epochs()
        self._batch_size(without_cuda)
        read_optimizer(self.training, found)
        read_schedule(self.training, found)
        self._loss()
        self._images()
        self._networks()
        self._evaluation()
        self._modes()
        self._printed()
        self._rest()
        self._fields()
        if found.schedule is None and found.epochs is not None and "learning_rate" in found.flags:
            found.rates = (found.flags["learning_rate"],) * found.epochs.value
        if not found.missing:
            try:
                found.recipe = Recipe(**found.flags)
            except UserError as error:
                found.lacks("recipe", found.start, str(error))
        return found

    def _batch_size(self, without_cuda: Training | None) -> None:
        found = self.found
        trainings = [self.training, *([without_cuda] if without_cuda else [])]
        sizes = [size for training in trainings if (size := batch_size_of(training)) is not None]
        if len(sizes) == 2 and sizes[0].value != sizes[1].value:
            detail = f"batches of {sizes[0].value} with a GPU, of {sizes[1].value} without"
            found.notes("depends_on_cuda", sizes[0].place, detail)
        else:
            del sizes[1:]
        found.batch_size = tuple(sizes)
        if sizes:
            found.flags["batch_size"] = sizes[0].value
        else:
            found.lacks("batch_size", found.start, "it is not known without running the code")

    def _epochs(self) -> None:
        training, found = self.training, self.found
        if not training.loops:
            files = [f"; {each.replace('.', '/')}.py is not beside it" for each in sorted(self.run.absent)]
            found.lacks("epochs", found.start, f"no loop over the training images is found{''.join(files)}")
            return
        last = training.loops[-1]
        around = [event for event in training.steps if event.loops][-1].loops
        outer = [loop for loop in around if loop.known]
        place = outer[0].site.place if outer else last.site.place
        repeated = [loop for loop in around if not loop.known]
        if len(repeated) > 1:
            found.lacks("epochs", repeated[0].site.place, "the number of turns is not known")
            return
        inside = training.of_loop(last)
        trained = [event for event in inside if event in training.steps][-1]
        ends = {event.site: event for event in training.events if event.what.kind == "end"}
        for event in ends.values():
            goes_on = event.what.name == "continue"  # a turn that ends after it trained on its batch
            if event.loops[-1] is last and not (goes_on and event.number > trained.number):
                found.lacks("images", event.site.place, "the loop does not train on every batch")
            elif event.loops[-1] in outer[:1] and event.conditional and not goes_on:
                found.differs("epochs", event.site.place, "the loop may end sooner")
        self._each_step()
        if not all(self._is_main(each) for each in training.loaders):
            found.lacks("images", place, "not all epochs are over the same images")
        found.epochs = Setting(len(training.main_loops), place)
        found.flags["epochs"] = found.epochs.value

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
        differentiated = [event for event in training.events if event.what.method == "backward"][:1]
        for event in training.steps:
            loop = event.loop_over_batches
            if loop is None and not any(each.number < event.number for each in differentiated):
                continue
            if loop is None or event.conditional or sum(loop in each.loops for each in training.steps) > 1:
                self.found.lacks("optimizer", event.site.place, "it is not one step a batch")
                break
        self._gradients(training.of_loop(training.main_loops[-1]))
        change = self._changed(training.main_loops[-1])
        if change is not None:
            self.found.lacks("images", change.place, f"{change.text}: the loop itself changes the images")

    def _changed(self, loop: Loop) -> Site | None:
        """Where a loop changes the images before the network gets them; None if it does not."""
        for event in self.training.of_loop(loop):
            if event.what.kind == "call" and is_module(event.what.of):
                for each in _until_items(event.what):
                    if each.method not in _MOVES and each.site is not None:
                        return each.site
        return None

    def _gradients(self, turn: Sequence[Event]) -> None:
        """Where the gradients are zeroed in a turn of the loop over batches."""
        training = self.training
        zeroed, backward, steps = list[int](), list[int](), list[Event]()
        for event in turn:
            owner = event.what.of.of if event.what.method else None
            of_other = isinstance(owner, Opaque) and is_optimizer(owner) and owner is not training.optimizer
            is_gradient = isinstance(owner, Opaque) and owner.name.endswith(".grad")
            zeroes = event.what.method in ("zero_", "fill_", "detach_") and is_gradient
            if event.key == "grad" or zeroes or (event.what.method == "zero_grad" and not of_other):
                zeroed.append(event.number)
            elif event.what.method == "backward":
                backward.append(event.number)
            elif event in training.steps:
                steps.append(event)
        if training.others or not steps:
            return
        where = steps[-1].site.place
        if not zeroed:
            self.found.lacks("optimizer", where, "its gradients are never zeroed")
            self.found.notes("gradients_never_zeroed", where)
        elif backward and backward[-1] < zeroed[0] < steps[-1].number:
            self.found.lacks("optimizer", where, "its gradients are zeroed before it takes them")
            self.found.notes("zeroed_before_step", where)

    def _printed(self) -> None:
        """Whether what the code prints of its settings is what some optimizer or loader in it has."""
        found = self.found
        if found.optimizer is None:
            return
        has: dict[str, list[Any]] = {name: [] for name in _SETTINGS}
        for event in self.training.events:
            if is_optimizer(made := event.what):
                for name in _SETTINGS:
                    is_ours = made.function in OBJECTS
                    has[name].append(default(made, name) if is_ours else made.kwargs.get(name, made))
        given = [value for each in schedules(self.training) for value in each.given]  # max_lr and the like
        has["lr"] += [*found.rates, found.flags.get("learning_rate")]
        has["lr"] += [each for each in given if isinstance(each, int | float)]
        if None not in has["momentum"]:
            has["momentum"].append(found.flags.get("momentum"))
        has["batch_size"] = [loader.arguments.get("batch_size", 1) for loader in loaders(self.run)]
        has["epochs"] = [found.flags.get("epochs")]
        said: dict[str, list[tuple[Place, str]]] = {}
        for event in self.training.events:
            for each in _SETTING.finditer(_said(event)[:_LONGEST]):
                said.setdefault(str(each.lastgroup), []).append((event.site.place, each[0]))
        for name, lines in said.items():
            values = [float(_NUMBER.findall(words)[-1]) for _, words in lines]
            known = [value for value in has[name] if isinstance(value, int | float)]
            is_known = len(known) == len([value for value in has[name] if value is not None])
            by_hand = name in _SETTINGS and set_by_hand(self.training) is not None
            kept = any(math.isclose(a, b, rel_tol=0.01) for a in values for b in known)
            if is_known and not by_hand and not kept:
                detail = f"{lines[0][1].strip()}, where it has {f'{known[0]:g}' if known else 'none'}"
                found.notes("printed_settings", lines[0][0], detail)

    def _fields(self) -> None:
        """What the code computes and names receptive fields, or prints, where it has one network."""
        if len({each.cls for each in no_parts(self.run.modules)}) == 1:
            for event in self.run.events:
                if event.what.kind == "field":
                    values = self.found.fields.setdefault(event.what.name, [])
                    values.append((event.site.place, event.what.args[0]))
                elif words := _said(event):
                    self.found.fields.setdefault("", []).append((event.site.place, words))

    def _networks(self) -> None:
        """Whether the network that is trained is the one that gets the images, in training and evaluation."""
        training = self.training
        module, steps = training.module, training.steps
        if module is None or not training.loops:
            return
        called = [event for event in training.of_loop(training.main_loops[-1]) if event.what.kind == "call"]
        called = [event for event in called if is_module(event.what.of)]
        if called and not any(_share(event.what.of, module) for event in called):
            detail = f"{called[0].site.text}, while the optimizer was given another {name_of(module)}"
            self.found.notes("optimizer_of_other_model", called[0].site.place, detail)
            self.found.lacks("optimizer", steps[-1].site.place, "it has another network than the loop trains")
            self.looped = called[0].what.of
            self.evaluated = tuple(each for each in training.elsewhere if each.module is self.looped)
            return
        elsewhere = training.elsewhere
        if training.evaluated or not elsewhere or any(_share(each.module, module) for each in elsewhere):
            return
        other, event = elsewhere[-1].module, elsewhere[-1].start
        touched = any(
            other in modules_in(event.what)
            for event in training.events
            if event.what.kind == "call"
            and (is_optimizer(event.what) or event.what.method in _LOADING or event.what.method.endswith("_"))
        )
        if other in self.run.modules and not touched:  # no copy of the trained one
            detail = f"{event.site.text} is another {name_of(other)}, which nothing trains"
            self.found.notes("other_model_evaluated", event.site.place, detail)
            self.evaluated = elsewhere

    def _tested(self) -> Evaluation | None:
        """The last evaluation, of test images if there is one; None without any."""
        on_test = [each for each in self.evaluated if each.loader.images.is_training is False]
        return next(reversed(on_test or self.evaluated), None)

    def _modes(self) -> None:
        """Whether the network trains in training mode and is evaluated in evaluation mode."""
        training = self.training
        if self.network is not None and not any(_has_modes(each.layer) for each in self.network.layers):
            return
        modes = training.modes(self.looped)
        steps = [step for step in training.steps if not {*training.main_loops}.isdisjoint(step.loops)]
        wrong = next((step for step in steps if modes[step] is False), None)
        if wrong is not None:
            switches = [event for event in training.events if event.what.method in ("train", "eval")]
            place = [event.site.place for event in switches if event.number < wrong.number][-1]
            self.found.notes("stays_in_evaluation", place)
            self.found.lacks("optimizer", place, "after the first epoch it trains in evaluation mode")
        parts = list(walk(training.module))[1:] if is_module(training.module) else []
        for event in training.events:
            if event.what.method == "eval" and event.what.of.of in parts:
                self.found.lacks("optimizer", event.site.place, "a part of it is in evaluation mode")
                break
        tested = self._tested()
        if tested and training.loops and training.modes(tested.module)[tested.start]:
            # without such loops what seems evaluated may be the training
            self.found.notes("no_eval_mode", tested.start.site.place)

    def _loss(self) -> None:
        training, found = self.training, self.found
        backward = [event for event in training.events if event.what.method == "backward"]
        backward = [each for each in backward if training.is_in_training(each) or not training.loops]
        if not backward:
            found.lacks("loss", found.start, "no call of backward is found in the training")
            return
        place, what = backward[-1].site.place, backward[-1].what.of.of
        if training.loops and len({each.site for each in backward}) > 1:
            found.lacks("loss", place, "backward is called for several losses")
        loss = loss_in(what)
        if loss is None:
            found.lacks("loss", place, "it is neither nll_loss nor cross_entropy")
            return
        call, settings = loss
        if call is not what and not (isinstance(what, Opaque) and what.method == "scale"):
            found.lacks("loss", place, "something is added to it, or it is scaled")
        assert call.site is not None
        assert settings.site is not None
        made = settings.site.place
        for argument in ("weight", "reduction", "size_average"):
            if (value := default(settings, argument)) not in (None, "mean"):
                found.lacks("loss", made, f"{argument}={plain(value)}")
        smoothing = default(settings, "label_smoothing")
        if isinstance(smoothing, int | float) and smoothing > 0:
            found.flags["label_smoothing"] = float(smoothing)
        self._fits_output(settings.function.rpartition(".")[2], call.site.place)
        target = call.args[1] if len(call.args) > 1 else call.kwargs.get("target")
        for each in _until_items(Opaque("call", "", args=(target,))):
            if each.method not in (*_MOVES, "view", "reshape", "squeeze", "flatten", "int"):
                where = each.site.place if each.site else made
                found.lacks("loss", where, f"{each.name}: the loop itself changes the labels")
                break

    def _fits_output(self, name: str, place: Place) -> None:
        """Whether the network ends as the loss, of this name and called there, needs it."""
        if self.network is None:
            return
        ends = {fact.name for fact in self.network.facts}
        is_cross_entropy = name in ("cross_entropy", "CrossEntropyLoss")
        if "softmax_output" in ends:
            self.found.lacks("loss", place, f"{name} gets a softmax")
        elif is_cross_entropy and "log_softmax" in ends:
            self.found.notes("cross_entropy_on_log_softmax", place)
        elif not is_cross_entropy and "log_softmax" not in ends:
            self.found.notes("nll_loss_without_log_softmax", place)
            self.found.lacks("loss", place, f"{name} gets no log_softmax")

    def _images(self) -> None:
        training, found, loader = self.training, self.found, self.training.loader
        if loader is None:
            found.lacks("images", found.start, "which images are trained on is not known")
            return
        place, images = loader.site.place, loader.images
        on_test = [each for each in training.loaders if each and each.images.is_training is False]
        if on_test:
            found.notes("trained_on_test_images", on_test[0].site.place)
        if loader.cut is not None and loader.cut.site is not None:
            detail = f"{loader.cut.site.text}: not all of them in each epoch"
            found.lacks("images", loader.cut.site.place, detail)
        if images.changes_labels:
            found.lacks("images", place, "target_transform changes their labels")
        if images.is_training is None:
            found.lacks("images", place, "they are not plainly MNIST's")
        elif not images.is_training:
            found.lacks("images", place, "it trains on the test images")
        elif images.held_out is None:
            found.lacks("images", place, "it trains on a part of the training images that is not known")
        elif images.held_out:
            detail = f"{images.held_out:,} training images of its own choice are held out; here the last ones"
            found.differs("images", place, detail)
            found.held_out = images.held_out
        self._order(loader)
        calls = found.train_transforms = transforms_of(images.transform, images.site or loader.site)
        if calls is None:
            found.lacks("transform", place, "it is not known without running the code")
            return
        in_loop = any(map(self._changed, training.main_loops[-1:]))  # which may normalise them
        read_distortions(calls, place, found, may_normalize=in_loop)
        for earlier in loaders(self.run) if not is_random(calls) else ():
            other = transforms_of(earlier.images.transform, earlier.site)
            if earlier.site != loader.site and earlier.images.is_training and other and is_random(other):
                found.notes("loaders_redefined", place, f"without the augmentation of {earlier.site.place}")
                break

    def _order(self, loader: Loader) -> None:
        """Whether each epoch shuffles the images, and takes all of them."""
        given, place, lacks = loader.arguments, loader.site.place, self.found.lacks
        if not given:
            lacks("images", place, "DataLoader is called with what is not known here")
        elif given.get("sampler") is not None or given.get("batch_sampler") is not None:
            lacks("images", place, "a sampler of its own")
        elif not isinstance(given.get("shuffle", False), bool | None):
            lacks("images", place, "whether they are shuffled is not known without running the code")
        elif not given.get("shuffle", False):
            self.found.notes("shuffle_off", place)
            lacks("images", place, "they are not shuffled")
        if given.get("drop_last") is True:
            self.found.differs("images", place, "the last, smaller batch is left out")

    def _evaluation(self) -> None:
        """Whether the images that are evaluated are MNIST's test images as the network knows images."""
        tested, found, train = self._tested(), self.found, self.found.train_transforms
        if tested is None:
            return
        loop, loader, place = tested.loop, tested.loader, tested.loader.site.place
        if all(self._is_trained_on(each.loader.images) for each in self.evaluated):
            found.notes("test_is_training_set", place)
        calls = transforms_of(loader.images.transform, loader.images.site or loader.site)
        found.test_transforms = calls
        if calls is not None and is_random(calls):
            found.notes("test_images_augmented", place)
        if calls is not None and train is not None:
            both = normalization(train), normalization(calls)
            known = all(each or is_unnormalized(of) for each, of in zip(both, (train, calls), strict=True))
            changed = None in both and any(map(self._changed, (loop, *self.training.main_loops[-1:])))
            if both[0] != both[1] and known and not changed:
                words = ["not at all" if each is None else str(each) for each in both]
                found.notes("normalization_differs", place, f"training {words[0]}, test {words[1]}")
        self._mean_loss(loop)

    def _is_trained_on(self, images: Images) -> bool:
        """Whether images are among those that are trained on."""
        main = self.training.loader
        same = main is not None and images.data is not None and images.data is main.images.data
        return images.is_training is True and (images.held_out == 0 or same)

    def _mean_loss(self, loop: Loop) -> None:
        """Whether the mean losses of batches are divided by the number of images."""
        losses = [found for event in self.training.of_loop(loop) if (found := loss_in(event.what))]
        called = dict(losses)
        for event in self.training.events:
            if event.what.kind == "operation" and event.what.args[1:] == (10_000,):
                for each in made_of(event.what.args[0], _is_sum):
                    if (settings := called.get(each)) is not None:
                        is_mean = default(settings, "size_average") is not False
                        if is_mean and default(settings, "reduction") != "sum":
                            self.found.notes("test_loss_of_batches", event.site.place)
                        return

    def _rest(self) -> None:
        """Seeds, initialisations, clipped gradients and the like."""
        training, found, events = self.training, self.found, self.training.events

        def first(holds: Callable[[Event, Opaque], Any]) -> list[Event]:
            return [each for each in events if holds(each, each.what)][:1]

        if not first(lambda _, what: what.function.endswith(_SEEDS)):
            found.notes("no_seed", found.start)
        for event in itertools.takewhile(lambda each: each not in training.steps[:1], events):
            if event.what.method == "load_state_dict" and not event.conditional:
                found.lacks("initialization", event.site.place, "it begins from weights that were stored")
        for event in first(lambda _, what: what.method in _PRECISIONS and is_module(what.of.of)):
            found.differs("precision", event.site.place, f"{event.what.method}; here float32")
        for event in first(lambda _, what: what.function.startswith("torch.nn.init.")):
            name = event.what.function.removeprefix("torch.nn.init.")
            found.lacks("initialization", event.site.place, name)
        for event in first(lambda each, what: "clip_grad" in what.function and training.is_in_training(each)):
            name = event.what.function.rpartition(".")[2]
            found.lacks("gradients", event.site.place, f"{name}: ours are not clipped")
        frozen = [each for each in events if "requires_grad" in (each.key, each.what.method[:-1])]
        for event in [each for each in frozen if any(modules_in(each.what))][:1]:
            found.lacks("optimizer", event.site.place, "some weights are not trained")
        for event in first(lambda each, what: _changes_in_place(each) and any(modules_in(what.of))):
            found.lacks("initialization", event.site.place, event.site.text)
        for event in first(lambda _, what: what.function.endswith((".autocast", ".GradScaler"))):
            found.differs("precision", event.site.place, "mixed precision; here float32")
        for event in first(lambda _, what: what.function.startswith("torch.optim.swa_utils.")):
            found.lacks("ema_decay", event.site.place, "an average of weights of PyTorch's")


def _changes_in_place(event: Event) -> bool:
    method = event.what.method
    return event.key == "data" or (method.endswith("_") and method != "requires_grad_" and event.key is None)


def _until_items(call: Opaque) -> Iterator[Opaque]:
    """The calls and operations that a call's arguments went through since they were items of a loop."""
    left = list(call.given)
    for _ in range(100):
        each = left.pop() if left else None
        if isinstance(each, Opaque) and each.kind in ("call", "operation"):
            yield each
            owner = each.of.of if each.method else None
            left += [owner] if each.method in _MOVES else [owner, *each.given]


def _is_sum(value: Opaque) -> bool:
    """Whether what a value was made of is in its own unit: not times the images of a batch."""
    return value.site is None or not isinstance(getattr(value.site.node, "op", None), ast.Mult)


def _said(event: Event) -> str:
    """What an event prints; empty for all others."""
    says = event.what.function == "print" or event.what.method in ("info", "write")  # of a logger, of tqdm
    return printed(event.what.args) if says else ""


def _share(first: Any, other: Any) -> bool:
    """Whether one of two modules is the other, or holds it or a part of it."""
    return not {*walk(first)}.isdisjoint(walk(other))


def _has_modes(layer: Layer) -> bool:
    """Whether a layer does something else in evaluation than in training."""
    inside = layer.layers if isinstance(layer, Residual) else ()
    return isinstance(layer, BatchNorm | Dropout | ChannelDropout) or any(map(_has_modes, inside))
