"""--task=mnist, top to bottom: data, network, training, evaluation, files."""

import contextlib
import dataclasses
import itertools
import operator
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnn import checkpoint, data, devices, distributed, interrupt, loop, population, sweep, train
from cnn.config import COMPILATION_CACHE, OF_PROCESSES, CnnConfig
from cnn.experiment import Experiment, describe, resolve, resolve_recipe, settle
from cnn.interrupt import Interrupted
from cnn.population import Progress
from cnn.recipe import Recipe
from cnn.results import (
    Run,
    beside_reported,
    mean_rows,
    reported_lines,
    state_of,
    write_metrics,
    write_results,
)
from harness.errors import UserError, explain, one_line, require, require_installed
from harness.workdir import (
    lock,
    make_config,
    open_folder,
    open_workdir,
    read_config,
    read_flags,
    require_no_link,
    write_config,
    write_each,
)

_EXPORT_PACKAGES = ("flatbuffers", "onnx", "onnxruntime", "safetensors")
_MAY_CHANGE_ON_RESUME = {
    *("workdir", "wait", "data_dir", "resume", "eval_only", "target_accuracy"),
    *("max_parameters", "max_epochs", "enforce_budget"),
    *("export", "tensorboard", "checkpoint_every_steps", "deterministic", "compilation_cache"),
    *("num_devices", "profile_steps", *OF_PROCESSES),
}


def run(experiment: Experiment) -> None:
    """Describe an experiment's network, then train or evaluate it, as the flags say.

    Raises:
      UserError: a mistake in the flags, the data or a folder; an export that differs; another
        process of the run that died.
      Diverged: the loss is no longer a finite number.
      Interrupted: a signal came; the run is saved.
    """
    flags = experiment.flags
    if flags.tensorboard:
        require_installed("tensorboard", ["tensorboardX"], extra="tensorboard")
    if flags.export is not None:
        require_installed("export", _EXPORT_PACKAGES, extra="export")
    with distributed.together():
        devices.start(experiment)
        if not distributed.is_main():
            _follow(experiment)
            return
        print(describe(experiment))
        if flags.eval_only:
            _evaluate_again(experiment)
        else:
            _train(experiment)


def prepare(experiment: Experiment, folder: Path) -> Run:
    """Read the data, derive what is constant; nothing is written to the folder."""
    flags = experiment.flags
    if flags.export is not None:
        open_folder("export", flags.export)
    dataset = data.load(flags.dataset, flags.data_dir)
    config, splits = loop.configure(
        experiment.architecture,
        experiment.recipe,
        dataset,
        validation_size=flags.validation_size,
        compute_dtype=flags.compute_dtype,
    )
    record = dataset.record
    if "validation" in splits:
        for line in data.classes_without_images("validation", splits["validation"], dataset.classes):
            record["warnings"].append(f"{line}; the last training images are held out: shuffle them")
    return Run(experiment, folder, config, splits, record)


def _begin(run: Run, size: int | None = None) -> list[Progress]:
    """Return the chunks of a run before their first step.

    A run that goes on keeps their size on any machine. Earlier versions saved all members as one chunk.

    Args:
      size: of a chunk, where process 0 has said it.
    """
    flags, members = run.experiment.flags, run.experiment.members
    if size is None:
        size = devices.chunk_size(flags.num_devices, run.config.recipe.batch_size, members)
        if (run.folder / "config.json").exists():
            size = int(read_config(str(run.folder), "mnist").get("chunk_size", members))
    begun = population.start(run.config, run.experiment.seeds, run.experiment.learning_rates)
    return population.split(begun, size)


def _train(experiment: Experiment) -> None:
    flags = experiment.flags
    run = prepare(experiment, Path())  # before the folder: a run that is refused leaves none
    folder = open_workdir(flags.workdir, "mnist")
    run = run._replace(folder=folder)
    with lock(folder, wait=flags.wait), _refused(folder, flags.workdir):
        require_new_or_same(experiment, folder)
        require_same_images(folder, run.dataset)
        chunks = _begin(run)
        chunk_size = int(distributed.broadcast(np.array(len(chunks[0].seeds))))
        names = checkpoint.chunk_names(len(chunks))
        for warning in run.dataset["warnings"]:
            print(one_line(f"warning: {warning}"), file=sys.stderr)
        with interrupt.remembered() as interrupted:
            for number, name in enumerate(names):
                with checkpoint.open_checkpoints(folder, name) as checkpoints:
                    chunks[number] = checkpoint.restore(checkpoints, like=chunks[number]) or chunks[number]
            finished = sum(len(chunk.history) for chunk in chunks)
            if steps := sum(int(chunk.state.step.sum()) for chunk in chunks):
                print(f"restored the checkpoint after {finished} epochs ({steps:,} steps) in {folder}")
            elif flags.resume and (folder / "config.json").exists():
                print(f"there is no checkpoint in {folder}: training starts anew")
            _write_config(run, finished, chunk_size)
            for stale in ("summary.json", "report.html"):  # of a run that now goes on for more epochs
                (folder / stale).unlink(missing_ok=True)
            trained = _train_epochs(run, chunks, interrupted, where=str(folder))
            for number, of_chunk in itertools.groupby(trained, operator.itemgetter(0)):
                with checkpoint.open_checkpoints(folder, names[number]) as checkpoints:
                    for _, chunks[number] in of_chunk:
                        # An error where the folder is gone: Orbax would make it anew.
                        (folder / "config.json").stat()
                        checkpoint.save(checkpoints, chunks[number])
                        _write_progress(folder, population.join(chunks), tensorboard=flags.tensorboard)
        result = population.join(chunks)
        files = write_results(run, result)
        if flags.tensorboard:
            files["tensorboard"] = lambda: _write_events(folder, result)
        if flags.export is not None:
            files["export"] = partial(_export, run, result, flags.export)
        write_each(folder, files, again=f"add --resume --workdir={folder}")


def _train_epochs(
    run: Run, chunks: list[Progress], interrupted: Callable[[], int | None], *, where: str
) -> Iterator[tuple[int, Progress]]:
    """Train what is left of each chunk; yield its place and the chunk wherever it is to be saved.

    Raises:
      Interrupted: a signal came; what was yielded last is where the run can go on.
    """
    flags = run.experiment.flags
    hooks = loop.Hooks(
        save_every=flags.checkpoint_every_steps,
        stop=lambda: interrupted() is not None,
        traced=flags.profile_steps,
        tracing=_trace(run.folder) if distributed.is_main() else contextlib.nullcontext(),
    )
    chunks = distributed.broadcast(chunks)
    trained = loop.train_epochs(run.config, run.splits, chunks, num_devices=flags.num_devices, hooks=hooks)
    with contextlib.closing(trained):
        for reached in trained:
            yield reached
            if distributed.agree(interrupted() is not None):
                number = interrupted() or signal.SIGTERM
                raise Interrupted(number, f"saved; go on with --resume --workdir={where}")


@contextlib.contextmanager
def _trace(folder: Path) -> Iterator[None]:
    """Write what happens within to WORKDIR/profile, for TensorBoard and for Perfetto."""
    require_no_link(folder / "profile")
    with jax.profiler.trace(folder / "profile", create_perfetto_trace=True):
        yield
    print(f"a trace is in {folder / 'profile'}: TensorBoard shows it; ui.perfetto.dev its .json.gz file")


@contextlib.contextmanager
def _refused(folder: Path, workdir: str | None) -> Iterator[None]:
    """Turn the system's refusal into advice on how the run can go on, once there is one."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        refusal = explain(error, ("--batch_size", "--num_seeds"))
        if refusal is None or not (folder / "config.json").exists():
            raise
        resume = "add --resume" if workdir else f"add --resume --workdir={folder}"
        raise UserError(refusal.of_a_run(resume)) from error


def _follow(experiment: Experiment) -> None:
    """Train in step with process 0, which alone reads checkpoints, writes files and speaks."""
    if experiment.flags.eval_only:
        return
    run = prepare(experiment, Path(experiment.flags.workdir or ""))
    chunks = _begin(run, int(distributed.broadcast(np.array(0))))
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        interrupt.remembered() as interrupted,
    ):
        for _ in _train_epochs(run, chunks, interrupted, where="FOLDER, the one that process 0 names"):
            pass


def _evaluate_again(experiment: Experiment) -> None:
    run, result = load(experiment)
    for index in range(len(result.seeds)):
        of_member = f"{result.name(index)}: " if len(result.seeds) > 1 else ""
        if result.diverged[index]:
            print(f"{of_member}diverged at step {result.state.metrics.diverged_at[index]}")
            continue
        for name, split in run.splits.items():
            if name == "train":
                continue
            evaluation = train.evaluate(state_of(result, index), split, config=run.config)
            accuracy = evaluation.correct / len(split.labels)
            print(f"{of_member}{name} loss {evaluation.loss:.4f}, {name} accuracy {accuracy:.2%}")
    if reported := beside_reported(run.experiment, result):
        print(reported_lines(reported, len(result.seeds)))
    if experiment.flags.export is not None:
        _export(run, result, experiment.flags.export)


def load(experiment: Experiment) -> tuple[Run, Progress]:
    """Return the run that its workdir holds, by the last checkpoints of what has begun.

    Nothing is written there.

    Raises:
      UserError: no run there, another run, no checkpoint, or a damaged one.
    """
    workdir = experiment.flags.workdir
    folder = Path(str(workdir)).expanduser().absolute()
    require_no_link(folder / "checkpoints")
    require_new_or_same(experiment, folder)
    run = prepare(experiment, folder)
    require_same_images(folder, run.dataset)
    chunks, begun = _begin(run), []
    for name, chunk in zip(checkpoint.chunk_names(len(chunks)), chunks, strict=True):
        if (folder / "checkpoints" / name).exists():
            with checkpoint.open_checkpoints(folder, name, read_only=True) as checkpoints:
                restored = checkpoint.restore(checkpoints, like=chunk)
            begun += [restored] if restored is not None else []
    result = population.join([chunk for chunk in begun if chunk.history or chunk.diverged.any()] or chunks)
    require(
        bool(result.history) or bool(result.diverged.all()),
        f"--workdir={workdir} holds no finished epoch yet: go on with --task=mnist --resume, or wait",
    )
    return run, result


def _write_config(run: Run, finished_epochs: int, chunk_size: int) -> None:
    flags, recipe = run.experiment.flags, _recipe_of(run.experiment.flags, run.config.recipe)
    started = dataclasses.replace(flags, resume=False, wait=False)
    members = run.experiment.members
    used = devices.available(flags.num_devices, run.config.recipe.batch_size, members, chunk_size)
    resumed_after = finished_epochs if flags.resume else None
    more = {"recipe": recipe, "dataset": run.dataset, "chunk_size": chunk_size}
    device = devices.name(used)
    write_config(run.folder, "mnist", started, device=device, resumed_after=resumed_after, **more)


def _write_progress(folder: Path, result: Progress, *, tensorboard: bool) -> None:
    if result.history:
        write_metrics(folder, result.history)
        if tensorboard:
            _write_events(folder, result)


def _write_events(folder: Path, result: Progress) -> None:
    """Write TensorBoard's files; of a sweep a folder for each learning rate."""
    from cnn.events import write_events  # an optional extra

    if not result.learning_rates:
        write_events(folder, mean_rows(result.history))
        return
    for rate in {*result.learning_rates}:
        rows = [row for row in result.history if row["base_learning_rate"] == rate]
        if rows:
            write_events(folder, mean_rows(rows), f"learning_rate_{rate:g}")


def _export(run: Run, result: Progress, path: str) -> None:
    """Export the first of the networks that figures show, too."""
    from cnn.export import export  # an optional extra

    folder = open_folder("export", path)
    result = sweep.shown(result)
    name = sweep.name_of(result, run.experiment.name)
    variables = train.evaluated_variables(state_of(result, 0), run.config)
    images = run.splits["test"].images
    description = export(folder, variables, images, name=name, config=run.config)
    which = f"{result.name(0)} " if run.experiment.members > 1 else ""
    print(
        f"{which}exported to {folder}: largest difference from the logits computed in float64 (they reach "
        f"{description['largest_logit']:.1f}) over the {len(images):,} test images"
    )
    for file, difference in description["largest_difference"].items():
        print(f"  {file:<17}  {difference:.1e}")


def experiment_of(folder: str) -> Experiment:
    """Return the experiment of the run in a folder, to evaluate it here: on this process and its devices.

    Raises:
      UserError: no run of --task=mnist there, a damaged config.json, or one of another version.
    """
    here: dict[str, Any] = {"workdir": folder, "resume": False, "eval_only": True}
    here |= {"export": None, "tensorboard": False, "compilation_cache": COMPILATION_CACHE}
    here |= dict.fromkeys(("num_devices", *OF_PROCESSES))
    flags: CnnConfig = make_config(CnnConfig, read_flags(folder, "mnist") | here, folder)
    return resolve(flags, data.header(flags.dataset, flags.data_dir))


def require_new_or_same(experiment: Experiment, folder: Path) -> None:
    """Refuse a folder with another run, or flags that would make the run in it another one.

    Raises:
      UserError: the first flag that differs, with both values.
    """
    flags, recipe = experiment.flags, experiment.recipe
    if not (flags.resume or flags.eval_only):
        require(
            not (folder / "config.json").exists(),
            f"--workdir={flags.workdir} holds a run already: add --resume to go on with it, "
            "or choose another folder",
        )
        return
    _, before = settle(CnnConfig(**read_flags(str(folder), "mnist")))
    changeable = set(_MAY_CHANGE_ON_RESUME)
    if "dataset" in read_config(str(folder), "mnist"):
        changeable.add("dataset")  # what its files hold is require_same_images' to say
    earlier = resolve_recipe(before)
    the_same_so_far = recipe.fade == 0 and recipe.schedule in ("constant", "step", "multistep", "plateau")
    if the_same_so_far and recipe.epochs >= earlier.epochs:
        changeable.add("epochs")
    was, now = (
        dataclasses.asdict(each) | _recipe_of(each, of) for each, of in ((before, earlier), (flags, recipe))
    )
    for name, value in now.items():
        require(
            value == was[name] or name in changeable,
            f"--{name}={value} is not what the run in {folder} has ({was[name]}): "
            "leave it out, or start a new run in another --workdir",
        )


def _recipe_of(flags: CnnConfig, recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as config.json keeps it, with all of its learning rates."""
    several = isinstance(flags.learning_rate, tuple)
    return dataclasses.asdict(recipe) | ({"learning_rate": flags.learning_rate} if several else {})


def require_same_images(folder: Path, dataset: Mapping[str, Any]) -> None:
    """Refuse to go on, or to evaluate, with other images than the run in a folder began with.

    A file may have another name, or lie elsewhere. Runs of earlier versions did not say what they read.

    Raises:
      UserError: the files that differ.
    """
    if not (folder / "config.json").exists():
        return
    before = read_config(str(folder), "mnist").get("dataset", dataset)["files"].values()
    changed = [name for name, digest in dataset["files"].items() if digest not in before]
    require(
        not changed,
        f"{', '.join(changed)} is not what the run in {folder} has read, its SHA-256 differs: "
        "put the former file back, or start a new run in another --workdir",
    )
