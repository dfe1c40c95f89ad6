"""What PyTorch does when it runs the programs of programs.py; recorded for machines that lack PyTorch.

    python -m tests.audit.notebook.judge        writes tests/recorded/audit_programs.json

The images are random, two a batch, though loaders and data sets have MNIST's lengths. torchvision is a
stand-in that notes which transforms an image goes through.
"""

import itertools
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

from tests.audit.notebook.programs import PROGRAMS, program

RECORD = Path(__file__).parents[2] / "recorded" / "audit_programs.json"
IMAGES = {True: 60_000, False: 10_000}


def recorded() -> dict[str, Any]:
    """What PyTorch did, by the program's name."""
    return json.loads(RECORD.read_text())  # type: ignore[no-any-return]


def run_all() -> dict[str, Any]:
    """The same, from PyTorch that is installed here."""
    root, env = Path(__file__).parents[3], {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.audit.notebook.judge", "-"]
    done = subprocess.run(command, cwd=root, env=env, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def judge(text: str) -> dict[str, Any]:
    """What PyTorch does with a program of our own."""
    import torch
    from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
    from torch.optim.optimizer import register_optimizer_step_pre_hook
    from torch.utils import data

    through: list[str] = []  # the transforms of the image that is being loaded

    class Transform:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.args = args

        def __call__(self, image: Any) -> Any:
            if type(self).__name__ == "Compose":
                for each in self.args[0]:
                    image = each(image)
            else:
                through.append(type(self).__name__)
            return image

    class MNIST(data.Dataset):
        def __init__(self, root: str, train: bool = True, transform: Any = None, **others: Any) -> None:
            self.train, self.transform = train, transform

        def __len__(self) -> int:
            return IMAGES[self.train]

        def __getitem__(self, index: int) -> tuple[Any, int]:
            image = torch.rand(1, 28, 28)
            return (self.transform(image) if self.transform else image), index % 10

    class DataLoader:
        def __init__(self, dataset: Any, batch_size: int = 1, shuffle: bool = False) -> None:
            self.dataset, self.batch_size = dataset, batch_size

        def __len__(self) -> int:
            return -(-len(self.dataset) // self.batch_size)

        def __iter__(self) -> Any:
            for _ in range(len(self)):
                images, labels = zip(*(self.dataset[index] for index in (0, 1)), strict=True)
                loaded["transforms"] = through[: len(through) // 2]
                through.clear()
                yield torch.stack(images), torch.tensor(labels)

    loaded: dict[str, list[str]] = {}
    names = ("Compose", "ToTensor", "Normalize", "RandomRotation", "ToImage", "ToDtype")
    transforms: Any = types.ModuleType("torchvision.transforms")
    transforms.__dict__.update({name: type(name, (Transform,), {}) for name in names})
    transforms.v2 = transforms
    datasets: Any = types.SimpleNamespace(MNIST=MNIST)
    torchvision: Any = types.ModuleType("torchvision")
    torchvision.transforms, torchvision.datasets = transforms, datasets
    stand_ins = {"torchvision": torchvision, "torchvision.transforms": transforms}

    seen = types.SimpleNamespace(rates=[], zeroed=[], empty=[], order=[], groups=[], weights=[], trained=0)
    modes: dict[bool, list[bool]] = {True: [], False: []}  # of the outermost calls, with gradients or without
    gone: dict[bool, list[str]] = {True: [], False: []}  # the transforms of their images, likewise
    depth, network = [0], []

    def before(module: Any, args: Any) -> None:
        depth[0] += 1
        if depth[0] == 1:
            trains = torch.is_grad_enabled()
            modes[trains].append(module.training)
            gone[trains] = loaded.get("transforms", [])
            if trains:
                network[:] = [module]
                seen.order = []
        elif not any(module.children()) and torch.is_grad_enabled():
            seen.order.append(module)

    def after(module: Any, args: Any, output: Any) -> None:
        depth[0] -= 1

    def are_zero(weights: Any) -> bool:
        """Whether their gradients are."""
        return not any(p.grad is not None and bool(p.grad.any()) for p in weights)

    def step(optimizer: Any, args: Any, kwargs: Any) -> None:
        seen.rates.append(optimizer.param_groups[0]["lr"])
        seen.empty.append(are_zero(network[0].parameters()))
        seen.weights = [p for group in optimizer.param_groups for p in group["params"]]
        seen.groups = [group["lr"] for group in optimizer.param_groups]
        seen.trained = sum(p.numel() for p in seen.weights)

    backward = torch.Tensor.backward

    def noted(tensor: Any, *args: Any, **kwargs: Any) -> None:
        seen.zeroed.append(are_zero(seen.weights))
        backward(tensor, *args, **kwargs)

    hooks = [
        register_module_forward_pre_hook(before),
        register_module_forward_hook(after),
        register_optimizer_step_pre_hook(step),
    ]
    kept = {name: sys.modules.get(name) for name in stand_ins}
    loader = data.DataLoader
    sys.modules.update(stand_ins)
    torch.Tensor.backward, data.DataLoader = noted, DataLoader  # type: ignore[assignment, misc, method-assign]
    output, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    try:
        exec(compile(text, "program.py", "exec"), {"__name__": "__main__"})  # one of programs.py
    finally:
        sys.stdout.close()
        sys.stdout = output
        torch.Tensor.backward, data.DataLoader = backward, loader  # type: ignore[misc, method-assign]
        for hook in hooks:
            hook.remove()
        for name, module in kept.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})
    (model,) = network
    labels = {id(module): name for name, module in model.named_modules()}
    return {
        "class": type(model).__name__,
        "parameters": sum(p.numel() for p in model.parameters()),
        "order": [labels[id(module)] for module in seen.order],
        "rates": [[rate, len(list(same))] for rate, same in itertools.groupby(seen.rates)],
        "groups": seen.groups,
        "trained": seen.trained,
        "training_modes": sorted(set(modes[True])),
        "evaluation_modes": sorted(set(modes[False])),
        "zeroed": all(seen.zeroed),
        "empty": all(seen.empty),
        "transforms": gone[True],
        "evaluated": gone[False],
    }


if __name__ == "__main__":
    found = {name: judge(program(name)) for name in PROGRAMS}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(record)}" for name, record in found.items())
    if sys.argv[1:] == ["-"]:
        print(json.dumps(found))
    else:
        RECORD.write_text(f"{{\n{lines}\n}}\n")
