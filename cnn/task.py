"""--task=mnist, top to bottom: data, network, training, evaluation, files."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import jax

from cnn import checkpoint, cpu, devices, hosts, interrupt, loop, train
from cnn.checkpoint import Progress
from cnn.config import CnnConfig
from cnn.results import mean_rows, state_of, write_metrics, write_results
from cnn.run import Run, prepare, require_new_or_same
from harness.errors import UserError, explain, require_installed
from harness.workdir import hold, open_folder, open_workdir, require_no_link, write_config

_EXPORT_PACKAGES = ("flatbuffers", "onnx", "onnxruntime", "safetensors")


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
    with hosts.together():
        devices.start(config)
        if not devices.is_main():
            _follow(config)
            return
        print(config.description)
        if config.eval_only:
            _evaluate_again(config)
        else:
            _train(config)


def _train(config: CnnConfig) -> None:
    run = prepare(config, Path())  # before the folder: a run that is refused leaves none
    folder = open_workdir(config.workdir, "mnist")
    run = run._replace(folder=folder)
    with hold(folder, wait=config.wait):
        require_new_or_same(config, folder)
        with _refused(run):
            _train_in(run)


def _train_in(run: Run) -> None:
    folder = run.folder
    with interrupt.remembered() as interrupted, checkpoint.open_checkpoints(folder) as checkpoints:
        progress = loop.start(run)
        restored = checkpoint.restore(checkpoints, like=progress)
        if restored is not None:
            checkpoint.require_whole_epochs(restored, run.setup.steps_per_epoch, folder)
            progress = restored
            print(f"restored the checkpoint after {len(progress.history)} epochs in {folder}")
        _write_config(run, len(progress.history))
        for stale in ("summary.json", "report.html"):  # of a run that now goes on for more epochs
            (folder / stale).unlink(missing_ok=True)
        trained = loop.train_on(run, devices.share(progress), interrupted)
        for progress in trained:
            (folder / "config.json").stat()  # an error where the folder is gone: Orbax would make it anew
            checkpoint.save(checkpoints, progress)
            if progress.history:
                write_metrics(folder, progress.history)
                _write_events(run, progress)
    write_results(run, progress)
    _write_events(run, progress)  # now with the figures
    _export(run, progress)


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
        resume = "add --resume" if run.config.workdir else f"add --resume --workdir={run.folder}"
        raise UserError(refusal.of_a_run(resume)) from error


def _follow(config: CnnConfig) -> None:
    """Train in step with process 0, which alone reads checkpoints, writes files and speaks."""
    if config.eval_only:
        return
    run = prepare(config, Path(config.workdir or ""))
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        interrupt.remembered() as interrupted,
    ):
        for _ in loop.train_on(run, devices.share(loop.start(run)), interrupted):
            pass


def _evaluate_again(config: CnnConfig) -> None:
    run, progress = load(config)
    for index, seed in enumerate(run.seeds):
        of_seed = f"seed {seed}: " if len(run.seeds) > 1 else ""
        for name, split in run.evaluated.items():
            images = train.Images(*jax.device_put(split))
            result = train.evaluate(state_of(progress, index), images, setup=run.setup)
            accuracy = int(result.correct) / len(split.labels)
            print(f"{of_seed}{name} loss {result.loss:.4f}, {name} accuracy {accuracy:.2%}")
    _export(run, progress)


def load(config: CnnConfig) -> tuple[Run, Progress]:
    """The run that a workdir holds, and its last checkpoint; nothing is written there.

    Raises:
      UserError: no run there, another run, no checkpoint, or a damaged one.
    """
    folder = Path(str(config.workdir)).expanduser().absolute()
    require_no_link(folder / "checkpoints")
    require_new_or_same(config, folder)
    run = prepare(config, folder)
    with checkpoint.open_checkpoints(folder, read_only=True) as checkpoints:
        progress = checkpoint.restore(checkpoints, like=loop.start(run))
    if progress is None or not progress.history:
        raise UserError(
            f"--workdir={config.workdir} holds no finished epoch yet: go on with --resume, or wait"
        )
    return run, progress


def _write_config(run: Run, finished_epochs: int) -> None:
    started = dataclasses.replace(run.config, resume=False, wait=False)
    used = devices.available(run.config.num_devices, run.setup.recipe.batch_size, len(run.seeds))
    recipe = dataclasses.asdict(run.setup.recipe)
    resumed_after = finished_epochs if run.config.resume else None
    device = devices.name(used)
    write_config(run.folder, "mnist", started, device=device, resumed_after=resumed_after, recipe=recipe)


def _write_events(run: Run, progress: Progress) -> None:
    if run.config.tensorboard:
        from cnn.events import write_events  # an optional extra

        write_events(run.folder, mean_rows(progress.history))


def _export(run: Run, progress: Progress) -> None:
    """Export the network of the first seed, where --export asks for it."""
    if run.config.export is None:
        return
    from cnn.export import export  # an optional extra

    folder = open_folder("export", run.config.export)
    variables = train.evaluated_variables(state_of(progress, 0), run.setup)
    images = run.evaluated["test"].images
    description = export(folder, variables, images, name=run.config.name, setup=run.setup)
    print(
        f"exported to {folder}: largest difference from our logits (they reach "
        f"{description['largest_logit']:.1f}) over the {len(images):,} test images"
    )
    for file, difference in description["largest_difference"].items():
        print(f"  {file:<17}  {difference:.1e}")
