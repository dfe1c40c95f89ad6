"""The loop over chunks and epochs: train, evaluate, yield; and how a step and an evaluation are compiled.

A member is one network to train. A chunk is the members that one compiled program trains at once; its
Progress is their states and metrics so far (cnn.population). `fit` trains to the end. `train_epochs` yields
a chunk's Progress wherever it is to be saved.
"""

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int32, UInt8, UInt32
from tqdm import tqdm

from cnn import data, devices, distributed, train, xla
from cnn.architecture import Architecture, Header, for_images, require_classes
from cnn.data import Dataset, Examples
from cnn.model import Network
from cnn.population import (
    DATA,
    SEED,
    Progress,
    each_member,
    end_epoch,
    find_diverged,
    join,
    lines,
    make_mesh,
    split,
    start,
)
from cnn.recipe import Recipe, check_learning_rates
from cnn.train import Config, Metrics, TrainState
from cnn.zoo import Entry
from harness.errors import Diverged, require

RunSteps = Callable[[TrainState, int, int], Iterator[tuple[TrainState, Metrics]]]
Evaluate = Callable[[TrainState], tuple[Any, dict[str, np.ndarray]]]
Keys = tuple[tuple[int, ...], ...]  # of each member, as jax.random.key_data has them

_STEPS_A_REPORT = 5  # see _compile_loop before raising it


def fit(
    entry: Entry,
    dataset: Dataset,
    *,
    seeds: Sequence[int] = (0,),
    learning_rates: Sequence[float] = (),
    validation_size: int = 0,
) -> Progress:
    """Train a network by its recipe on all devices that JAX has, as --task=mnist does.

    Args:
      entry: such as zoo.ZOO["bn_4k"].
      dataset: such as data.load("mnist"): the images to learn from, and those to be tested on.
      seeds: one for each network to train.
      learning_rates: with each of which each seed is trained, in place of the recipe's.
      validation_size: training images to hold out, which are evaluated after every epoch, too.

    Raises:
      UserError: a network or a recipe that does not fit the images; a learning rate that is not allowed, or
        there twice; see configure.
      Diverged: the loss is no longer a finite number; of several learning rates, with all of them.
    """
    recipe, header = entry.recipe, Header(dataset.train.images.shape[1:], dataset.classes)
    if learning_rates:
        check_learning_rates(learning_rates)
        recipe = recipe.with_flags({"learning_rate": learning_rates[0]})
    network = for_images(entry.architecture, header)
    require_classes(network, header.classes)
    recipe.require_side(header.shape[0])
    config, splits = configure(network, recipe, dataset, validation_size=validation_size)
    begun = start(config, seeds, learning_rates)
    size = devices.chunk_size(None, recipe.batch_size, len(begun.seeds))
    chunks = split(begun, size)
    for number, chunk in train_epochs(config, splits, tuple(chunks)):
        chunks[number] = chunk
    return join(chunks)


def configure(
    architecture: Architecture,
    recipe: Recipe,
    dataset: Dataset,
    *,
    validation_size: int = 0,
    compute_dtype: str = "float32",
) -> tuple[Config, dict[str, Examples]]:
    """Return what is constant in a training, and its images by name: train, test, and validation if held out.

    Args:
      architecture: one that fits the images.

    Raises:
      UserError: a batch or a validation that the images are too few for.
    """
    training, validation = data.hold_out(dataset.train, validation_size)
    count = len(training.labels)
    require(
        recipe.batch_size <= count,
        f"--batch_size={recipe.batch_size} is more than the {count} training images: give {count} or fewer",
    )
    network = Network(architecture, recipe.initialization, compute_dtype)
    config = Config(network, recipe, count, *data.grey_statistics(training.images))
    held_out = {"validation": validation} if validation_size else {}
    return config, {"train": training, **held_out, "test": dataset.test}


class Hooks(NamedTuple):
    """Callbacks and limits of a training.

    Attributes:
      save_every: number of steps between two yields within an epoch; None yields after epochs alone.
      stop: called every few steps; True yields at once.
      traced: number of first steps, at most an epoch, that are trained within `tracing`; None traces none.
      tracing: a context such as jax.profiler.trace.
    """

    save_every: int | None = None
    stop: Callable[[], bool] = lambda: False
    traced: int | None = None
    tracing: contextlib.AbstractContextManager[None] = contextlib.nullcontext()


_NO_HOOKS = Hooks()


class Program(NamedTuple):
    """The compiled programs for a number of members at once.

    Attributes:
      run_steps: from (state, first, last) trains the steps from `first` to before `last`, all of one epoch.
        It yields the newest state and metrics that are ready, now and then and at the end; no step waits for
        the host. Whoever asks for no more ends it.
      evaluate: from the state after an epoch gives, on the host, its average with statistics of its own, and
        each split's logits.
    """

    mesh: Mesh
    run_steps: RunSteps
    evaluate: Evaluate


def train_epochs(
    config: Config,
    splits: Mapping[str, Examples],
    chunks: Sequence[Progress],
    *,
    num_devices: int | None = None,
    hooks: Hooks = _NO_HOOKS,
) -> Generator[tuple[int, Progress], None, None]:
    """Train what is left of each chunk, one after the other; yield it wherever it is to be saved.

    That is after every epoch and where the hooks say. All members of a chunk are at the same step. A member
    of several learning rates that diverges is computed on with its chunk, without rows.

    Args:
      splits: train is learned from, the others are evaluated after every epoch.
      chunks: from `split`, or what was yielded last of each.
      num_devices: to train on; None: as many as can share the batches.

    Yields:
      The chunk's place among the chunks, and what it has come to.

    Raises:
      Diverged: the loss or the weights are no longer finite numbers; of several learning rates, of all.
    """
    counts = [len(chunk.seeds) for chunk in chunks]
    usable = devices.available(num_devices, config.recipe.batch_size, sum(counts), counts[0])
    programs: dict[int, Program] = {}
    survives = False
    with _progress_bar(config, chunks) as bar:
        for number, chunk in enumerate(chunks):
            while not _is_over(config, chunk):
                if counts[number] not in programs:
                    programs[counts[number]] = compile_program(config, usable, splits, chunk.state)
                before, chunk = chunk, _train(config, programs[counts[number]], splits, chunk, hooks, bar)
                hooks = hooks._replace(traced=None)
                for line in lines(config, before, chunk, sum(counts)):
                    bar.write(line)
                yield number, chunk
            survives |= not chunk.diverged.all()
    if not survives:
        rates = ", ".join(f"{rate:g}" for rate in sorted({*join(chunks).learning_rates}))
        raise Diverged(
            f"with none of the learning rates {rates} does any network stay finite: start a new run, in "
            "another folder, with a smaller --learning_rate"
        )


def _is_over(config: Config, chunk: Progress) -> bool:
    steps = config.recipe.epochs * config.steps_per_epoch
    return int(chunk.state.step[0]) >= steps or bool(chunk.diverged.all())


def _train(
    config: Config, program: Program, splits: Mapping[str, Examples], chunk: Progress, hooks: Hooks, bar: tqdm
) -> Progress:
    """Return the chunk after its next steps, evaluated where they end an epoch."""
    steps, first = config.steps_per_epoch, int(chunk.state.step[0])
    last = _last_step(first, steps, hooks)
    alone = jax.process_count() == 1  # several processes have to stop at the same step
    began, seen = time.perf_counter(), int(chunk.state.metrics.seen[0])
    with hooks.tracing if hooks.traced else contextlib.nullcontext():
        for state, metrics in program.run_steps(put(chunk.state, program.mesh, SEED), first, last):  # noqa: B007
            here = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), metrics)
            bar.set_postfix(loss=f"{here.loss[0] / here.seen[0]:.4f}", refresh=False)
            bar.update((int(here.seen[0]) - seen) * len(chunk.seeds))
            seen = int(here.seen[0])
            hopeless = (here.diverged_at >= 0).any() and not chunk.learning_rates
            if alone and (hopeless or hooks.stop()):
                break
    chunk = find_diverged(config, chunk._replace(state=fetch(state)))
    chunk = chunk._replace(seconds=chunk.seconds + (time.perf_counter() - began))
    if chunk.state.step[0] % steps:
        return chunk
    ema, logits = program.evaluate(state)
    return end_epoch(config, splits, chunk._replace(state=chunk.state._replace(ema=ema)), logits)


def _last_step(first: int, steps: int, hooks: Hooks) -> int:
    """Return where to yield next: at the end of the epoch, or where a hook has it sooner."""
    ends = [(first // steps + 1) * steps]
    if hooks.save_every:
        ends.append((first // hooks.save_every + 1) * hooks.save_every)
    if hooks.traced:
        ends.append(first + hooks.traced)
    return min(ends)


def _progress_bar(config: Config, chunks: Sequence[Progress]) -> tqdm:
    run = join(chunks)
    epochs = (run.state.step // config.steps_per_epoch).sum()
    return tqdm(
        total=len(run.seeds) * config.recipe.epochs * config.images,
        initial=int(epochs * config.images + run.state.metrics.seen.sum()),
        unit=" images",
        unit_scale=True,
        disable=None if distributed.is_main() else True,
    )


# What is compiled: functions of one member and of whole batches, sharded as their arguments are.


def compile_program(
    config: Config, usable: Sequence[Any], splits: Mapping[str, Examples], state: TrainState
) -> Program:
    """Compile what trains as many members at once as the state has; evaluation at its first use."""
    mesh = make_mesh(usable, len(state.step))
    require_divides(config.recipe.batch_size, mesh)
    began = time.perf_counter()
    run_steps = compile_steps(config, mesh, put(splits["train"], mesh), put(state, mesh, SEED))
    print(f"{devices.name(list(mesh.devices.flat))}; compiled in {time.perf_counter() - began:.1f} s")
    evaluated = {name: examples for name, examples in splits.items() if name != "train"}
    batches = {name: put_batches(examples.images, mesh) for name, examples in evaluated.items()}
    few = put(train.statistics_images(splits["train"].images, config), mesh, None, DATA)
    lowered = evaluation_program(config, mesh).lower(put(state, mesh, SEED), few, batches)
    compiled = ThreadPoolExecutor(1).submit(lowered.compile)  # while the devices train the first epoch

    def evaluate(state: TrainState) -> tuple[Any, dict[str, np.ndarray]]:
        ema, logits = fetch(compiled.result()(state, few, batches))
        members = len(state.step)
        return ema, {
            name: logits[name].reshape(members, -1, logits[name].shape[-1])[:, : len(examples.labels)]
            for name, examples in evaluated.items()
        }

    return Program(mesh, run_steps, evaluate)


def compile_steps(config: Config, mesh: Mesh, images: Examples, state: TrainState) -> RunSteps:
    """Compile Program.run_steps.

    Each epoch visits the images in a new order; its last batch is smaller where they do not divide.
    On a GPU or a TPU the steps are one dispatch. On a CPU they are a Python loop over the compiled
    step, since XLA's CPU backend runs the gradient of a convolution inside a loop 8 to 10 times
    slower (jax-ml/jax issue 12868; benchmarks.drivers).

    Args:
      images: the training images, on every device.
      state: with a leading axis of members, sharded over the mesh's axis "seed".
    """
    on_cpu = jax.default_backend() == "cpu"
    return (_compile_loop if on_cpu else _compile_dispatch)(config, mesh, images, state)


def _compile_dispatch(config: Config, mesh: Mesh, images: Examples, state: TrainState) -> RunSteps:
    """The whole epoch as one program, to which the state is donated."""
    zero, order = np.int32(0), put_order(config, mesh, member_keys(state), 0)
    members = NamedSharding(mesh, PartitionSpec(SEED))
    program = jax.jit(epoch_function(config, mesh), donate_argnums=0, out_shardings=members)
    compiled = program.lower(state, order, images, zero, zero).compile()

    def run_steps(state: TrainState, first: int, last: int) -> Iterator[tuple[TrainState, Metrics]]:
        keys, epoch = member_keys(state), first // config.steps_per_epoch
        order = put_order(config, mesh, keys, epoch)
        state = compiled(state, order, images, np.int32(first), np.int32(last))
        draw_order(config, keys, epoch + 1)  # while the devices train
        yield state, state.metrics

    return run_steps


def epoch_function(config: Config, mesh: Mesh) -> Callable[..., TrainState]:
    """Return a function from (state, order, images, first, last) to the state after those steps.

    What a GPU or a TPU runs in one dispatch; ahead-of-time compilation takes it from here.
    """

    def epoch(state: TrainState, order: Array, images: Examples, first: Array, last: Array) -> TrainState:
        def step(number: Array, state: TrainState) -> TrainState:
            rows = order[number % config.steps_per_epoch]
            batch = Examples(images.images[rows], images.labels[rows])
            return train.train_step(state, batch, config=config)

        return jax.lax.fori_loop(first, last, step, state)

    return each_member(epoch, mesh, shared=3)


def _compile_loop(config: Config, mesh: Mesh, images: Examples, state: TrainState) -> RunSteps:
    """The loop over the compiled step.

    At most 2 x _STEPS_A_REPORT steps, of two programs each, wait on a device: where 32 do, XLA's CPU client
    holds a thread until one is done, and with a thread a device those that wait for each other in a
    reduction have none left.
    """

    # A program of its own: as a part of the step XLA fetches every pixel several times, and slowly.
    def prepare(key: Array, order: Array, images: Examples, step: Array) -> tuple[Array, Array]:
        rows = order[step % config.steps_per_epoch]
        key = jax.random.wrap_key_data(key)
        return train.prepare_images(images.images[rows], step, key=key, config=config), images.labels[rows]

    def step(state: TrainState, images: Array, labels: Array) -> TrainState:
        return train.update(state, images, labels, config=config)

    def compiled(function: Callable[..., Any], result: PartitionSpec, *arguments: Any) -> Any:
        lowered = jax.jit(function, out_shardings=NamedSharding(mesh, result)).lower(*arguments)
        with warnings.catch_warnings():  # XLA cannot write a program with oneDNN's convolutions to a file
            warnings.filterwarnings("ignore", "Error writing persistent compilation cache entry.*bad_alloc")
            return lowered.compile(compiler_options=xla.step_options(mesh.size, config.network.architecture))

    zero, order = np.int32(0), put_order(config, mesh, member_keys(state), 0)
    first_batch = state.key, order, images, zero
    prepare_batch = compiled(each_member(prepare, mesh, shared=2), PartitionSpec(SEED, DATA), *first_batch)
    compiled_step = compiled(
        each_member(step, mesh), PartitionSpec(SEED), state, *prepare_batch(*first_batch)
    )

    def run_steps(state: TrainState, first: int, last: int) -> Iterator[tuple[TrainState, Metrics]]:
        keys, earlier = state.key, None
        order = put_order(config, mesh, member_keys(state), first // config.steps_per_epoch)
        for number in range(first, last):
            state = compiled_step(state, *prepare_batch(keys, order, images, np.int32(number)))
            if (number + 1 - first) % _STEPS_A_REPORT == 0:
                if earlier is not None:
                    yield state, jax.block_until_ready(earlier)
                earlier = state.metrics
        yield state, state.metrics

    return run_steps


def evaluation_program(config: Config, mesh: Mesh) -> Any:
    """Return a function from (state, train.statistics_images, batches by split) to the average and logits."""

    def evaluate(state: TrainState, few: Array, splits: dict[str, Array]) -> tuple[Any, dict[str, Array]]:
        state = train.with_statistics(state, few, config=config)
        return state.ema, {
            name: train.all_logits(state, batches, config=config) for name, batches in splits.items()
        }

    options = xla.evaluation_options(mesh.devices.flat[0].platform)
    return jax.jit(each_member(evaluate, mesh, shared=2), compiler_options=options)


# Arrays to the mesh and back.


def require_divides(batch_size: int, mesh: Mesh) -> None:
    """Raise UserError unless a batch divides among a row: of a run that goes on elsewhere it may not."""
    require(
        batch_size % mesh.shape[DATA] == 0,
        f"--batch_size={batch_size} does not divide among the {mesh.shape[DATA]} devices of a seed: "
        f"give --num_devices={np.gcd(batch_size, mesh.size)}",
    )


def put_batches(images: UInt8[np.ndarray, "count height width channels"], mesh: Mesh) -> Array:
    """Put images on the mesh in batches for evaluation; the first ones fill up the last batch."""
    size = train.EVALUATION_BATCH * mesh.shape[DATA]
    rows = np.arange(-(-len(images) // size) * size) % len(images)
    return put(images[rows].reshape(-1, size, *images.shape[1:]), mesh, None, DATA)


def put_order(config: Config, mesh: Mesh, keys: Keys, epoch: int) -> Int32[Array, "members steps batch"]:
    """Put each member's order of the images in an epoch on the mesh, sharded as the batches are."""
    return put(np.asarray(draw_order(config, keys, epoch)), mesh, SEED, None, DATA)


@functools.lru_cache(maxsize=2)  # of an epoch and the next one
def draw_order(config: Config, keys: Keys, epoch: int) -> Int32[Array, "members steps batch"]:
    """Draw train.epoch_order of each member on the host's CPU; this returns before it is drawn.

    Its numbers are those of any other platform. On a TPU the sort that draws it would take a fifth of the
    time in which an epoch with it is compiled.
    """
    with jax.default_device(devices.host()):
        return _epoch_orders(np.array(keys, np.uint32), np.int32(epoch), config=config)


@functools.partial(jax.jit, static_argnames="config")
def _epoch_orders(
    keys: UInt32[Array, "members words"], epoch: Int32[Array, ""], *, config: Config
) -> Int32[Array, "members steps batch"]:
    return jax.vmap(lambda key: train.epoch_order(jax.random.wrap_key_data(key), epoch, config=config))(keys)


def member_keys(state: TrainState) -> Keys:
    """Return the keys of a state's members, on the host."""
    return tuple(map(tuple, fetch(state.key).tolist()))


def put(tree: Any, mesh: Mesh, *axes: str | None) -> Any:
    """Put arrays of the host on the mesh, their first axes sharded as named; without a name, on every device.

    Each process provides the parts of its own devices and no more.
    """
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(np.shape(leaf), sharding, leaf.__getitem__), tree
    )


def fetch(tree: Any) -> Any:
    """Return arrays of the mesh on the host of every process."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.array, tree)  # a copy: on a GPU the state's memory is donated to the next steps
