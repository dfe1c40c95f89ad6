"""--task=mnist, top to bottom: data, network, training, evaluation, files."""

import contextlib
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from cnn import checkpoint, cpu, data, devices, distributed, interrupt, loop, train
from cnn.config import COMPILATION_CACHE, CnnConfig
from cnn.interrupt import Interrupted
from cnn.loop import Result
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
)

_EXPORT_PACKAGES = ("flatbuffers", "onnx", "onnxruntime", "safetensors")
_MAY_CHANGE_ON_RESUME = {
    *("workdir", "wait", "data_dir", "resume", "eval_only", "target_accuracy"),
    *("max_parameters", "max_epochs", "enforce_budget"),
    *("export", "tensorboard", "checkpoint_every_steps", "deterministic", "compilation_cache"),
    *("num_devices", "coordinator_address", "num_processes", "process_id"),
}


def run(config: CnnConfig) -> None:
    """Describe a network, then train or evaluate it, as the flags say.

    Raises:
      UserError: a mistake in the flags, the data or a folder; an export that differs; another
        process of the run that died.
      Diverged: the loss is no longer a finite number.
      Interrupted: a signal came; the run is saved.
    """
    if config.tensorboard:
        require_installed("tensorboard", ["tensorboardX"], extra="tensorboard")
    if config.export is not None:
        require_installed("export", _EXPORT_PACKAGES, extra="export")
    cpu.keep_freed_memory()
    with distributed.together():
        devices.start(config)
        if not distributed.is_main():
            _follow(config)
            return
        print(config.description)
        if config.eval_only:
            _evaluate_again(config)
        else:
            _train(config)


def prepare(flags: CnnConfig, folder: Path) -> Run:
    """Read the data, derive what is constant; nothing is written to the folder."""
    if flags.export is not None:
        open_folder("export", flags.export)
    flags.require_network()
    dataset = data.load(flags.dataset, flags.data_dir)
    config, splits = loop.configure(
        flags.architecture,
        flags.resolved_recipe,
        dataset,
        validation_size=flags.validation_size,
        compute_dtype=flags.compute_dtype,
    )
    record = dataset.record
    if "validation" in splits:
        for line in data.classes_without_images("validation", splits["validation"], dataset.classes):
            record["warnings"].append(f"{line}; the last training images are held out: shuffle them")
    return Run(flags, folder, config, splits, record)


def _start(run: Run) -> Result:
    return loop.start(run.config, range(run.flags.seed, run.flags.seed + run.flags.num_seeds))


def _train(flags: CnnConfig) -> None:
    run = prepare(flags, Path())  # before the folder: a run that is refused leaves none
    folder = open_workdir(flags.workdir, "mnist")
    run = run._replace(folder=folder)
    with lock(folder, wait=flags.wait):
        require_new_or_same(flags, folder)
        require_same_images(run)
        with _refused(run):
            _train_in(run)


def _train_in(run: Run) -> None:
    folder, begun = run.folder, _start(run)
    for warning in run.dataset["warnings"]:
        print(one_line(f"warning: {warning}"), file=sys.stderr)
    with interrupt.remembered() as interrupted, checkpoint.open_checkpoints(folder) as checkpoints:
        restored = checkpoint.restore(checkpoints, like=begun)
        if restored is not None:
            checkpoint.require_whole_epochs(restored, run.config.steps_per_epoch, folder)
            begun = restored
            print(f"restored the checkpoint after {len(begun.history)} epochs in {folder}")
        _write_config(run, len(begun.history))
        for stale in ("summary.json", "report.html"):  # of a run that now goes on for more epochs
            (folder / stale).unlink(missing_ok=True)
        result = begun
        for result in _train_epochs(run, begun, interrupted, where=str(folder)):
            (folder / "config.json").stat()  # an error where the folder is gone: Orbax would make it anew
            checkpoint.save(checkpoints, result)
            if result.history:
                write_metrics(folder, result.history)
                _write_events(run, result)
    write_results(run, result)
    _write_events(run, result)  # now with the figures
    _export(run, result)


def _train_epochs(
    run: Run, result: Result, interrupted: Callable[[], int | None], *, where: str
) -> Iterator[Result]:
    """Train what is left; yield it wherever it is to be saved.

    Raises:
      Interrupted: a signal came; what was yielded last is where the run can go on.
    """
    trained = loop.train_epochs(
        run.config,
        run.splits,
        distributed.broadcast(result),
        num_devices=run.flags.num_devices,
        save_every=run.flags.checkpoint_every_steps,
        stop=lambda: interrupted() is not None,
    )
    with contextlib.closing(trained):
        for reached in trained:
            yield reached
            if distributed.agree(interrupted() is not None):
                number = interrupted() or signal.SIGTERM
                raise Interrupted(number, f"saved; go on with --resume --workdir={where}")


@contextlib.contextmanager
def _refused(run: Run) -> Iterator[None]:
    """Where the system refuses something once there is a run to go on with, say how."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        refusal = explain(error, ("--batch_size", "--num_seeds"))
        if refusal is None or not (run.folder / "config.json").exists():
            raise
        resume = "add --resume" if run.flags.workdir else f"add --resume --workdir={run.folder}"
        raise UserError(refusal.of_a_run(resume)) from error


def _follow(flags: CnnConfig) -> None:
    """Train in step with process 0, which alone reads checkpoints, writes files and speaks."""
    if flags.eval_only:
        return
    run = prepare(flags, Path(flags.workdir or ""))
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        interrupt.remembered() as interrupted,
    ):
        for _ in _train_epochs(run, _start(run), interrupted, where="FOLDER, the one that process 0 names"):
            pass


def _evaluate_again(flags: CnnConfig) -> None:
    run, result = load(flags)
    for index, seed in enumerate(result.seeds):
        of_seed = f"seed {seed}: " if len(result.seeds) > 1 else ""
        for name, split in run.splits.items():
            if name == "train":
                continue
            images = jax.device_put(split)
            evaluation = train.evaluate(state_of(result, index), images, config=run.config)
            accuracy = int(evaluation.correct) / len(split.labels)
            print(f"{of_seed}{name} loss {evaluation.loss:.4f}, {name} accuracy {accuracy:.2%}")
    if reported := beside_reported(run.flags, result):
        print(reported_lines(reported, len(result.seeds)))
    _export(run, result)


def load(flags: CnnConfig) -> tuple[Run, Result]:
    """The run that a workdir holds, and its last checkpoint; nothing is written there.

    Raises:
      UserError: no run there, another run, no checkpoint, or a damaged one.
    """
    folder = Path(str(flags.workdir)).expanduser().absolute()
    require_no_link(folder / "checkpoints")
    require_new_or_same(flags, folder)
    run = prepare(flags, folder)
    require_same_images(run)
    with checkpoint.open_checkpoints(folder, read_only=True) as checkpoints:
        result = checkpoint.restore(checkpoints, like=_start(run))
    if result is None or not result.history:
        raise UserError(
            f"--workdir={flags.workdir} holds no finished epoch yet: go on with --resume, or wait"
        )
    return run, result


def _write_config(run: Run, finished_epochs: int) -> None:
    started = dataclasses.replace(run.flags, resume=False, wait=False)
    used = devices.available(run.flags.num_devices, run.config.recipe.batch_size, run.flags.num_seeds)
    recipe = dataclasses.asdict(run.config.recipe)
    resumed_after = finished_epochs if run.flags.resume else None
    device = devices.name(used)
    more = {"recipe": recipe, "dataset": run.dataset}
    write_config(run.folder, "mnist", started, device=device, resumed_after=resumed_after, **more)


def _write_events(run: Run, result: Result) -> None:
    if run.flags.tensorboard:
        from cnn.events import write_events  # an optional extra

        write_events(run.folder, mean_rows(result.history))


def _export(run: Run, result: Result) -> None:
    """Export the network of the first seed, where --export asks for it."""
    if run.flags.export is None:
        return
    from cnn.export import export  # an optional extra

    folder = open_folder("export", run.flags.export)
    variables = train.evaluated_variables(state_of(result, 0), run.config)
    images = run.splits["test"].images
    description = export(folder, variables, images, name=run.flags.name, config=run.config)
    print(
        f"exported to {folder}: largest difference from our logits (they reach "
        f"{description['largest_logit']:.1f}) over the {len(images):,} test images"
    )
    for file, difference in description["largest_difference"].items():
        print(f"  {file:<17}  {difference:.1e}")


def config_of(folder: str) -> CnnConfig:
    """The flags of the run that a folder holds, to evaluate it here: on this process and what devices it has.

    Raises:
      UserError: no run of --task=mnist there, a damaged config.json, or one of another version.
    """
    here: dict[str, Any] = {"workdir": folder, "resume": False, "eval_only": True}
    here |= {"export": None, "tensorboard": False, "compilation_cache": COMPILATION_CACHE}
    here |= dict.fromkeys(("num_devices", "coordinator_address", "num_processes", "process_id"))
    return make_config(CnnConfig, read_flags(folder, "mnist") | here, folder)  # type: ignore[no-any-return]


def require_new_or_same(config: CnnConfig, folder: Path) -> None:
    """Refuse a folder with another run, or flags that would make the run in it another one.

    Raises:
      UserError: the first flag that differs, with both values.
    """
    if not (config.resume or config.eval_only):
        require(
            not (folder / "config.json").exists(),
            f"--workdir={config.workdir} holds a run already: add --resume to go on with it, "
            "or choose another folder",
        )
        return
    before = CnnConfig(**read_flags(str(folder), "mnist"))
    changeable = set(_MAY_CHANGE_ON_RESUME)
    if "dataset" in read_config(str(folder), "mnist"):
        changeable.add("dataset")  # what its files hold is require_same_images' to say
    recipe = config.resolved_recipe
    the_same_so_far = recipe.fade == 0 and recipe.schedule in ("constant", "step", "multistep", "plateau")
    if the_same_so_far and recipe.epochs >= before.resolved_recipe.epochs:
        changeable.add("epochs")
    was, now = (
        dataclasses.asdict(each) | dataclasses.asdict(each.resolved_recipe) for each in (before, config)
    )
    for name, value in now.items():
        require(
            value == was[name] or name in changeable,
            f"--{name}={value} is not what the run in {folder} has ({was[name]}): "
            "leave it out, or start a new run in another --workdir",
        )


def require_same_images(run: Run) -> None:
    """Refuse to go on, or to evaluate, with other images than the run in its folder began with.

    A file may have another name, or lie elsewhere. Runs of earlier versions did not say what they read.

    Raises:
      UserError: the files that differ.
    """
    if not (run.folder / "config.json").exists():
        return
    before = read_config(str(run.folder), "mnist").get("dataset", run.dataset)["files"].values()
    changed = [name for name, digest in run.dataset["files"].items() if digest not in before]
    require(
        not changed,
        f"{', '.join(changed)} is not what the run in {run.folder} has read, its SHA-256 differs: "
        "put the former file back, or start a new run in another --workdir",
    )
