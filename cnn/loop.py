"""The loop over chunks and epochs: the mesh, the two ways to drive an epoch, evaluation, rows of metrics.

`fit` trains to the end. `train_epochs` yields what a chunk has come to wherever it is to be saved.
"""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int32, UInt32
from tqdm import tqdm

from cnn import cpu, data, devices, distributed, train
from cnn.architecture import Architecture, require_classes, with_classes
from cnn.data import Dataset, Examples
from cnn.model import Network
from cnn.population import Result, end_epoch, find_diverged, join, lines, split, start
from cnn.recipe import Recipe, check_learning_rates
from cnn.train import Config, Metrics, TrainState
from cnn.zoo import Entry
from harness.errors import Diverged, require

RunSteps = Callable[[TrainState, int, int], Iterator[tuple[TrainState, Metrics]]]
Evaluate = Callable[[TrainState], tuple[Any, dict[str, np.ndarray]]]
Keys = tuple[tuple[int, ...], ...]  # of each seed, as jax.random.key_data has them

SEED, DATA = "seed", "data"
_S = PartitionSpec(SEED)
_STEPS_A_REPORT = 5  # see _compile_loop before raising it


def fit(
    entry: Entry,
    dataset: Dataset,
    *,
    seeds: Sequence[int] = (0,),
    learning_rates: Sequence[float] = (),
    validation_size: int = 0,
) -> Result:
    """Train a network by its recipe on all devices that JAX has, as --task=mnist does.

    Args:
      entry: such as zoo.ZOO["bn_4k"].
      dataset: such as data.load("mnist"): the images to learn from, and those to be tested on.
      seeds: one for each network to train.
      learning_rates: with each of which each seed is trained, in place of the recipe's.
      validation_size: training images to hold out, which are evaluated after every epoch, too.

    Raises:
      UserError: see configure; a learning rate that is not allowed, or there twice.
      Diverged: the loss is no longer a finite number; of several learning rates, with all of them.
    """
    recipe = entry.recipe
    if learning_rates:
        check_learning_rates(learning_rates)
        recipe = recipe.with_flags({"learning_rate": learning_rates[0]})
    config, splits = configure(
        entry.architecture,
        recipe,
        dataset,
        validation_size=validation_size,
        sweep=len(learning_rates) > 1,
    )
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
    sweep: bool = False,
) -> tuple[Config, dict[str, Examples]]:
    """What is constant in a training; its images by name: train, test, and validation if some are held out.

    The network takes images of the data set's shape, and its last layer has as many features as there are
    classes.

    Raises:
      UserError: a batch or a validation that the images are too few for, or a network or a recipe that does
        not fit them.
    """
    shape = dataset.train.images.shape[1:]
    architecture = with_classes(dataclasses.replace(architecture, input_shape=shape), dataset.classes)
    require_classes(architecture, dataset.classes)
    recipe.require_side(shape[0])
    training, validation = data.hold_out(dataset.train, validation_size)
    count = len(training.labels)
    require(
        recipe.batch_size <= count,
        f"--batch_size={recipe.batch_size} is more than the {count} training images: give {count} or fewer",
    )
    network = Network(architecture, recipe.initialization, compute_dtype)
    config = Config(network, recipe, count, *data.grey_statistics(training.images), sweep)
    held_out = {"validation": validation} if validation_size else {}
    return config, {"train": training, **held_out, "test": dataset.test}


class Pauses(NamedTuple):
    """Where train_epochs yields within an epoch, too.

    Attributes:
      every: steps between two pauses; None: there are none.
      stop: asked now and then; says whether to pause here, for whoever then asks for no more.
      traced: how many steps to train within `tracing` before a pause, the first ones, at most an epoch; None:
        none.
    """

    every: int | None = None
    stop: Callable[[], bool] = lambda: False
    traced: int | None = None
    tracing: contextlib.AbstractContextManager[None] = contextlib.nullcontext()


_NO_PAUSES = Pauses()


def train_epochs(
    config: Config,
    splits: Mapping[str, Examples],
    chunks: Sequence[Result],
    *,
    num_devices: int | None = None,
    pauses: Pauses = _NO_PAUSES,
) -> Generator[tuple[int, Result], None, None]:
    """Train what is left of each chunk, one after the other; yield it wherever it is to be saved.

    That is after every epoch and at each pause. All members of a chunk are at the same step. A member of a
    sweep that diverges is computed on with its chunk, without rows.

    Args:
      splits: train is learned from, the others are evaluated after every epoch.
      chunks: from `split`, or what was yielded last of each.
      num_devices: to train on; None: as many as can share the batches.

    Yields:
      The chunk's place among the chunks, and what it has come to.

    Raises:
      Diverged: the loss or the weights are no longer finite numbers; of a sweep, with no member.
    """
    recipe, steps = config.recipe, config.steps_per_epoch
    counts = [len(chunk.seeds) for chunk in chunks]
    usable = devices.available(num_devices, recipe.batch_size, sum(counts), counts[0])
    alone = jax.process_count() == 1  # several processes have to stop at the same step
    programs: dict[int, tuple[RunSteps, Evaluate]] = {}
    survives, to_trace = False, pauses.traced
    with _progress_bar(config, chunks) as bar:
        for number, chunk in enumerate(chunks):
            mesh = make_mesh(usable, counts[number])
            while (first := int(chunk.state.step[0])) < recipe.epochs * steps and not chunk.diverged.all():
                if counts[number] not in programs:
                    programs[counts[number]] = _compile(config, mesh, splits, chunk.state)
                run_steps, evaluate = programs[counts[number]]
                began = time.perf_counter()
                begun, seen = put(chunk.state, mesh, SEED), int(chunk.state.metrics.seen[0])
                last = (first // steps + 1) * steps
                if pauses.every:
                    last = min(last, (first // pauses.every + 1) * pauses.every)
                if to_trace:
                    last = min(last, first + to_trace)
                with pauses.tracing if to_trace else contextlib.nullcontext():
                    for state, metrics in run_steps(begun, first, last):  # noqa: B007
                        here = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), metrics)
                        bar.set_postfix(loss=f"{here.loss[0] / here.seen[0]:.4f}", refresh=False)
                        bar.update((int(here.seen[0]) - seen) * counts[number])
                        seen = int(here.seen[0])
                        ends = (here.diverged_at >= 0).any() and not config.sweep
                        if alone and (pauses.stop() or ends):
                            break
                to_trace = None
                before = chunk
                chunk = find_diverged(config, chunk._replace(state=fetch(state)))
                chunk = chunk._replace(seconds=chunk.seconds + (time.perf_counter() - began))
                if chunk.state.step[0] % steps == 0:
                    ema, logits = evaluate(state)
                    chunk = chunk._replace(state=chunk.state._replace(ema=ema))
                    chunk = end_epoch(config, splits, chunk, logits)
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


def _progress_bar(config: Config, chunks: Sequence[Result]) -> tqdm:
    run = join(chunks)
    epochs = (run.state.step // config.steps_per_epoch).sum()
    return tqdm(
        total=len(run.seeds) * config.recipe.epochs * config.images,
        initial=int(epochs * config.images + run.state.metrics.seen.sum()),
        unit=" images",
        unit_scale=True,
        disable=None if distributed.is_main() else True,
    )


# What is compiled for a number of members at once.


def _compile(
    config: Config, mesh: Mesh, splits: Mapping[str, Examples], state: TrainState
) -> tuple[RunSteps, Evaluate]:
    """Training and evaluation on the mesh.

    Returns:
      run_steps; and a function of the state after an epoch that gives, on the host, its ema with
      statistics of its own and each split's logits.
    """
    require_divides(config.recipe.batch_size, mesh)
    images, state = put_images(splits["train"], mesh), put(state, mesh, SEED)
    began = time.perf_counter()
    run_steps = compile_steps(config, mesh, images, state)
    print(f"{devices.name(list(mesh.devices.flat))}; compiled in {time.perf_counter() - began:.1f} s")
    few = put(train.statistics_images(splits["train"].images, config), mesh, None, _data_axis(mesh))
    settle = statistics_function(config, mesh)
    program = evaluation_function(config, mesh)
    evaluated = {name: split for name, split in splits.items() if name != "train"}
    on_devices = {name: put_images(split, mesh) for name, split in evaluated.items()}

    def evaluate(state: TrainState) -> tuple[Any, dict[str, np.ndarray]]:
        state = settle(state, few)
        return fetch(state.ema), {
            name: fetch(program(state, on_devices[name]))[:, : len(split.labels)]
            for name, split in evaluated.items()
        }

    return run_steps, evaluate


def compile_steps(config: Config, mesh: Mesh, images: Examples, state: TrainState) -> RunSteps:
    """Compile the training of the steps of an epoch.

    Each epoch visits the images in a new order; its last batch is smaller where they do not divide.
    On a GPU or a TPU the steps are one dispatch. On a CPU they are a Python loop over the compiled
    step, since XLA's CPU backend runs the gradient of a convolution inside a loop 8 to 10 times
    slower (jax-ml/jax issue 12868; benchmarks.drivers).

    Args:
      images: the training images, from put_images.
      state: with a leading axis of seeds, sharded over the mesh's axis "seed".

    Returns:
      A function of (state, first, last) that trains the steps from `first` to before `last`, all of one
      epoch. It yields the newest state and metrics that are ready, now and then and at the end; no step
      waits for the host. Whoever asks for no more ends it.
    """
    return (_compile_loop if jax.default_backend() == "cpu" else _compile_dispatch)(
        config, mesh, images, state
    )


def _compile_dispatch(config: Config, mesh: Mesh, images: Examples, state: TrainState) -> RunSteps:
    """The whole epoch as one program, to which the state is donated."""
    zero = jnp.int32(0)
    program = jax.jit(epoch_function(config, mesh), donate_argnums=0)
    order = put_order(config, mesh, seed_keys(state), 0)
    compiled = program.lower(state, images, order, zero, zero).compile()

    def run_steps(state: TrainState, first: int, last: int) -> Iterator[tuple[TrainState, Metrics]]:
        keys, epoch = seed_keys(state), first // config.steps_per_epoch
        order = put_order(config, mesh, keys, epoch)
        state = compiled(state, images, order, np.int32(first), np.int32(last))
        draw_order(config, keys, epoch + 1)  # while the devices train
        yield state, state.metrics

    return run_steps


def epoch_function(config: Config, mesh: Mesh) -> Callable[..., TrainState]:
    """From (state, images, order of put_order, first, last) to the state after those steps.

    What a GPU or a TPU runs in one dispatch; ahead-of-time compilation takes it from here.
    """
    config, axis = _over(mesh, config)

    def epoch(state: TrainState, images: Examples, order: Array, first: Array, last: Array) -> TrainState:
        batches = _arrange(images, order, config=config)

        def one(step: Array, state: TrainState) -> TrainState:
            batch = _prepare(batches, state.key, step, config=config)
            return _update(*_apart(state), batch, config=config)

        return jax.lax.fori_loop(first, last, one, state)

    takes = (_S, PartitionSpec(axis), PartitionSpec(SEED, None, axis), PartitionSpec(), PartitionSpec())
    return _on_devices(epoch, mesh, takes, _S)


def _compile_loop(config: Config, mesh: Mesh, images: Examples, state: TrainState) -> RunSteps:
    """The loop over the compiled step.

    At most 2 x _STEPS_A_REPORT steps, of two programs each, wait on a device: where 32 do, XLA's CPU client
    holds a thread until one is done, and with a thread a device those that wait for each other in a
    reduction have none left.
    """
    zero, keys = jnp.int32(0), state.key
    inner, axis = _over(mesh, config)
    everywhere, batched, batch = PartitionSpec(), PartitionSpec(SEED, None, axis), PartitionSpec(SEED, axis)

    def compiled(
        function: Callable[..., Any], takes: Any, gives: Any, *arguments: Any, donated: tuple[int, ...] = ()
    ) -> Any:
        on_mesh = _on_devices(functools.partial(function, config=inner), mesh, takes, gives)
        options = cpu.step_options(mesh.size)
        return jax.jit(on_mesh, donate_argnums=donated).lower(*arguments).compile(compiler_options=options)

    order = put_order(config, mesh, seed_keys(state), 0)
    arrange = compiled(_arrange, (PartitionSpec(axis), batched), batched, images, order)
    batches = arrange(images, order)
    # A program of its own: as a part of the step XLA fetches every pixel several times, and slowly.
    prepare = compiled(_prepare, (batched, _S, everywhere), batch, batches, keys, zero)
    first = prepare(batches, keys, zero)
    update = compiled(_update, (_S, _S, batch), _S, *_apart(state), first, donated=(0,))

    def run_steps(state: TrainState, first: int, last: int) -> Iterator[tuple[TrainState, Metrics]]:
        keys = state.key
        order = put_order(config, mesh, seed_keys(state), first // config.steps_per_epoch)
        batches = arrange(images, order)
        earlier = None
        for step in range(first, last):
            state = update(*_apart(state), prepare(batches, keys, np.int32(step)))
            if (step + 1 - first) % _STEPS_A_REPORT == 0:
                if earlier is not None:
                    yield state, jax.block_until_ready(earlier)
                earlier = state.metrics
        yield state, state.metrics

    return run_steps


def statistics_function(config: Config, mesh: Mesh) -> Callable[[TrainState, Array], TrainState]:
    """From (state, train.statistics_images, each batch sharded) to each seed's train.with_statistics."""
    config, axis = _over(mesh, config)

    def statistics(state: TrainState, images: Array) -> TrainState:
        return _each_seed(lambda state: train.with_statistics(state, images, config=config))(state)

    return jax.jit(_on_devices(statistics, mesh, (_S, PartitionSpec(None, axis)), _S))


def evaluation_function(config: Config, mesh: Mesh) -> Callable[[TrainState, Examples], Float[Array, "..."]]:
    """From (state, images of put_images) to the logits of each seed."""
    config, axis = _over(mesh, config)

    def logits(state: TrainState, images: Examples) -> Float[Array, "seeds count classes"]:
        pixels: Any = images.images
        return _each_seed(lambda state: train.all_logits(state, pixels, config=config))(state)

    return jax.jit(_on_devices(logits, mesh, (_S, PartitionSpec(axis)), PartitionSpec(SEED, axis)))


# What each device does with its part: a leading axis of the seeds that are there.


def _arrange(images: Examples, order: Int32[Array, "seeds steps images_here"], *, config: Config) -> Examples:
    """This device's part of every batch of an epoch: seeds x steps x images."""
    axis = config.network.axis_name
    if axis is not None:
        images = jax.lax.all_gather(images, axis, tiled=True)
    return _each_seed(lambda order: jax.tree.map(lambda leaf: leaf[order], images))(order)


def _prepare(
    batches: Examples, keys: UInt32[Array, "seeds words"], step: Int32[Array, ""], *, config: Config
) -> Examples:
    """train.prepare_batch of each seed on its images of the step."""
    images = jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(leaf, step % config.steps_per_epoch, 1, keepdims=False),
        batches,
    )

    def one(images: Examples, key: UInt32[Array, " words"]) -> Examples:
        return train.prepare_batch(images, step, key=jax.random.wrap_key_data(key), config=config)

    return _each_seed(one)(images, keys)


def _apart(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """A state's fields: those that the next step may write over, and those that are read after it."""
    fields = state._asdict()
    kept = {name: fields.pop(name) for name in ("key", "metrics")}
    return fields, kept


def _update(fields: dict[str, Any], kept: dict[str, Any], batch: Examples, *, config: Config) -> TrainState:
    """train.update of each seed on its batch."""
    return _each_seed(functools.partial(train.update, config=config))(TrainState(**fields, **kept), batch)


def _each_seed(function: Callable[..., Any]) -> Callable[..., Any]:
    """vmap over the leading axis; where that is 1, without the batched convolutions of a vmap."""

    def apply(*trees: Any) -> Any:
        if len(jax.tree.leaves(trees)[0]) > 1:
            return jax.vmap(function)(*trees)
        return jax.tree.map(lambda leaf: leaf[None], function(*jax.tree.map(lambda leaf: leaf[0], trees)))

    return apply


def _on_devices(function: Callable[..., Any], mesh: Mesh, takes: Any, gives: Any) -> Callable[..., Any]:
    """What each device does with its part, as a function of whole arrays.

    A gradient within it is of the device's own part (check_vma=False): train.update sums them once,
    where JAX would sum each parameter's on its own.
    """
    return jax.shard_map(function, mesh=mesh, in_specs=takes, out_specs=gives, check_vma=False)


# The mesh, arrays to it and back.


def make_mesh(devices: Sequence[Any], seeds: int) -> Mesh:
    """The devices as rows of seeds, each row sharing the batches of its seeds.

    In their own order: jax.make_mesh refuses three of a TPU's 2x2 chips, or two rows of 4x4x4.
    """
    rows = math.gcd(seeds, len(devices))
    return Mesh(np.array(devices).reshape(rows, -1), (SEED, DATA))


def require_divides(batch_size: int, mesh: Mesh) -> None:
    """Raise UserError unless a batch divides among a row: of a run that goes on elsewhere it may not."""
    require(
        batch_size % mesh.shape[DATA] == 0,
        f"--batch_size={batch_size} does not divide among the {mesh.shape[DATA]} devices of a seed: "
        f"give --num_devices={math.gcd(batch_size, mesh.size)}",
    )


def _over(mesh: Mesh, config: Config) -> tuple[Config, str | None]:
    """The configuration of a device of the mesh, and the axis that batches are sharded over."""
    axis = _data_axis(mesh)
    return dataclasses.replace(config, network=config.network.clone(axis_name=axis)), axis


def _data_axis(mesh: Mesh) -> str | None:
    """The axis that batches are sharded over; None where there is one device a seed."""
    return DATA if mesh.shape[DATA] > 1 else None


def put_images(split: Examples, mesh: Mesh) -> Examples:
    """Images sharded over the mesh's axis "data", the first ones repeated where it does not divide."""
    count = len(split.labels)
    rows = np.arange(-(-count // mesh.shape[DATA]) * mesh.shape[DATA]) % count
    return put(Examples(split.images[rows], split.labels[rows]), mesh, _data_axis(mesh))


def put_order(config: Config, mesh: Mesh, keys: Keys, epoch: int) -> Int32[Array, "seeds steps images"]:
    """The order of the images in an epoch, of each seed, sharded as the batches are."""
    return put(np.asarray(draw_order(config, keys, epoch)), mesh, SEED, None, _data_axis(mesh))


@functools.lru_cache(maxsize=2)  # of an epoch and the next one
def draw_order(config: Config, keys: Keys, epoch: int) -> Int32[Array, "seeds steps images"]:
    """train.epoch_order of each seed, by the host's CPU; this returns before it is drawn.

    Its numbers are those of any other platform. On a TPU the sort that draws it would take a fifth of the
    time in which an epoch with it is compiled.
    """
    with jax.default_device(devices.host()):
        return _epoch_orders(np.array(keys, np.uint32), np.int32(epoch), config=config)


@functools.partial(jax.jit, static_argnames="config")
def _epoch_orders(
    keys: UInt32[Array, "seeds words"], epoch: Int32[Array, ""], *, config: Config
) -> Int32[Array, "seeds steps images"]:
    return _each_seed(lambda key: train.epoch_order(jax.random.wrap_key_data(key), epoch, config=config))(
        keys
    )


def seed_keys(state: TrainState) -> Keys:
    """The keys of a state's seeds, on the host."""
    return tuple(map(tuple, fetch(state.key).tolist()))


def put(tree: Any, mesh: Mesh, *axes: str | None) -> Any:
    """Arrays of the host on the mesh, their first axes sharded as named.

    Each process provides the parts of its own devices and no more.
    """
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(np.shape(leaf), sharding, leaf.__getitem__), tree
    )


def fetch(tree: Any) -> Any:
    """Arrays of the mesh on the host of every process."""
    if jax.process_count() > 1:
        return multihost_utils.process_allgather(tree, tiled=True)
    return jax.tree.map(np.array, tree)  # a copy: on a GPU the state's memory is donated to the next steps
