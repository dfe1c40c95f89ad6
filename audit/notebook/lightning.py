"""Lightning's Trainer as the loops that it runs: they are written in Python below and followed as such."""

import ast
from typing import Any

from audit.notebook.datasets import count
from audit.notebook.library import bind
from audit.notebook.state import Frame, Given
from audit.notebook.values import Function, Instance, Opaque, Scope

_FIT = """
model.optimizers = lambda: optimizer
model.lr_schedulers = lambda: schedules[0]
model.manual_backward = lambda loss: loss.backward()
if given.get("precision") not in (None, 32, "32", "32-true"):
    autocast()
if "StochasticWeightAveraging" in callbacks:
    average(model)
model.on_fit_start()
model.on_train_start()
for epoch in range(epochs):
    model.current_epoch = epoch
    model.train()
    model.on_train_epoch_start()
    for index, batch in enumerate(images):
        if cut and unknown:
            break
        loss = model.training_step(*(batch, index)[:takes])
        if automatic:
            loss = loss["loss"] if gives_dict else loss
            if given.get("accumulate_grad_batches") in (None, 1) or unknown:
                optimizer.zero_grad()
            loss.backward()
            if given.get("gradient_clip_val"):
                clip(model.parameters(), 1)
            if given.get("accumulate_grad_batches") in (None, 1) or unknown:
                optimizer.step()
        for schedule in by_batch:
            schedule.step()
    model.eval()
    if held is not None:
        for index, batch in enumerate(held):
            model.validation_step(*(batch, index)[:tests])
    for schedule in by_epoch:
        schedule.step()
    for schedule in plateaus:
        schedule.step(unknown)
    model.on_train_epoch_end()
    if ("EarlyStopping" in callbacks or given.get("max_time")) and unknown:
        break
"""
_EVALUATE = """
model.eval()
for index, batch in enumerate(images):
    step(*(batch, index)[:tests])
"""
_CUTS = ("limit_train_batches", "fast_dev_run", "overfit_batches", "max_steps")
_LOADERS = {"fit": "train_dataloader", "validate": "val_dataloader", "test": "test_dataloader"}
_ENDLESS = 1_000  # epochs, where none are given


def run_trainer(trainer: Opaque, stage: str, given: Given) -> Any:
    """What trainer.fit, validate and test do; others return what is not known."""
    order = ["model", "dataloaders", "ckpt_path", "verbose", "datamodule"]
    if stage == "fit":
        order = ["model", "train_dataloaders", "val_dataloaders", "datamodule", "ckpt_path"]
    arguments = bind(dict.fromkeys(order), given.args, given.kwargs)
    if stage not in _LOADERS or isinstance(arguments, str):
        return given.result(trainer)
    model = trainer.attributes["(model)"] = arguments.get("model") or trainer.attributes.get("(model)")
    if not isinstance(model, Instance):
        return given.result(trainer)
    model.attributes["trainer"] = trainer
    loaders = [arguments.get(name) for name in order if name.endswith("dataloaders")]
    owners = [each for each in (loaders[0], arguments.get("datamodule"), model) if isinstance(each, Instance)]
    images: list[Any] = [None if isinstance(each, Instance) else each for each in loaders]
    for owner in owners:  # a data module, and the model, which may be its own
        _call(given, owner, "prepare_data")
        _call(given, owner, "setup", stage)
        hooks = [_call(given, owner, name) for name in (_LOADERS[stage], "val_dataloader")]
        images = [each or hook for each, hook in zip(images, hooks, strict=False)]
    # of several the first
    images = [items[0] if (items := given.run.items(each)) else each for each in images]
    names = _of_fit(trainer, model, images[0], given) if stage == "fit" else {}
    step = "test_step" if stage == "test" else "validation_step"
    names |= {"model": model, "images": images[0], "held": images[-1], "tests": _arity(model, step)}
    code = ast.parse(_FIT if stage == "fit" else _EVALUATE.replace("step(", f"model.{step}("))
    for node in ast.walk(code):
        if isinstance(node, ast.stmt | ast.expr):
            ast.copy_location(node, given.site.node)  # they stand where the Trainer is called
    if images[0] is not None:
        given.run.block(code.body, Frame(Scope(names), given.site.unit))
    return given.result(trainer)


def _of_fit(trainer: Opaque, model: Instance, images: Any, given: Given) -> dict[str, Any]:
    """The names that the loops of a training need."""
    epochs, batches = trainer.kwargs.get("max_epochs"), count(given.run, images)
    epochs = _ENDLESS if epochs is None else epochs
    trainer.attributes |= {"max_epochs": epochs, "num_training_batches": batches}
    if batches is not None and isinstance(epochs, int):
        trainer.attributes["estimated_stepping_batches"] = batches * epochs
    optimizers, schedules = _configured(given.run.call_method(model, "configure_optimizers"))
    unknown = Opaque("unknown", "a condition of the Trainer's", given.site)
    step = model.cls.find("training_step")
    nodes = ast.walk(step.node) if isinstance(step, Function) else ()
    returned = [each.value for each in nodes if isinstance(each, ast.Return)]
    plateaus = [each for each, _ in schedules if each.function.endswith("ReduceLROnPlateau")]
    others = [pair for pair in schedules if pair[0] not in plateaus]
    callbacks = given.run.items(trainer.kwargs.get("callbacks")) or ()
    return {
        "given": dict(trainer.kwargs),
        "callbacks": [each.function.rpartition(".")[2] for each in callbacks if isinstance(each, Opaque)],
        "cut": any(trainer.kwargs.get(name) not in (None, False, -1, 1.0) for name in _CUTS),
        "epochs": epochs,
        "automatic": model.attributes.get("automatic_optimization") is not False,
        "takes": _arity(model, "training_step"),
        "gives_dict": any(isinstance(each, ast.Dict) for each in returned),
        "optimizer": optimizers[0] if optimizers else unknown,
        "schedules": [each for each, _ in schedules],
        "plateaus": plateaus,
        "by_batch": [each for each, by_batch in others if by_batch],
        "by_epoch": [each for each, by_batch in others if not by_batch],
        "unknown": unknown,
        "autocast": Opaque("library", "torch.autocast"),
        "clip": Opaque("library", "torch.nn.utils.clip_grad_norm_"),
        "average": Opaque("library", "torch.optim.swa_utils.AveragedModel"),
    }


def _configured(value: Any) -> tuple[list[Any], list[tuple[Opaque, bool]]]:
    """The optimizers, and the schedules with whether each is stepped after every batch."""
    optimizers, schedules = value, []
    if isinstance(value, dict):
        optimizers, schedules = value.get("optimizer"), value.get("lr_scheduler", [])
    elif isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], list | tuple):
        optimizers, schedules = value
    pairs: list[tuple[Any, bool]] = [
        (each.get("scheduler"), each.get("interval") == "step") if isinstance(each, dict) else (each, False)
        for each in (schedules if isinstance(schedules, list | tuple) else [schedules])
    ]
    optimizers = list(optimizers) if isinstance(optimizers, list | tuple) else [optimizers]
    return optimizers, [pair for pair in pairs if isinstance(pair[0], Opaque)]


def _call(given: Given, owner: Instance, name: str, *args: Any) -> Any:
    """What a hook returns, called with as many arguments as it takes; None without it."""
    return given.run.call_method(owner, name, *args[: _arity(owner, name)])


def _arity(owner: Instance, name: str) -> int:
    """How many arguments a method takes."""
    function = owner.cls.find(name)
    return len(function.node.args.args) - 1 if isinstance(function, Function) else 2
