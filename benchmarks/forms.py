"""python -m benchmarks.forms [NETWORK ...]: what the forms of cnn/cpu.py gain in a training step.

Images a second by cpu.FORMS, by the plain forms of cnn/model.py, and with each operation alone in its plain
form, on a virtual device a core.
"""

import argparse

import jax

from benchmarks.spread import spread
from benchmarks.training import Training
from cnn import cpu, devices
from cnn.config import CnnConfig
from cnn.model import PLAIN

_STEPS, _REPEATS = 24, 5


def measure(network: str) -> None:
    """Print a network's table."""
    variants = {"all of cpu.FORMS": cpu.FORMS, "all plain": PLAIN}
    variants |= {
        f"plain {name}": cpu.FORMS._replace(**{name: getattr(PLAIN, name)}) for name in cpu.Forms._fields
    }
    count = jax.device_count()
    trainings = {
        name: Training(network, steps=_STEPS, num_devices=count, forms=forms)
        for name, forms in variants.items()
    }
    speeds = [
        {name: training.images_a_second() for name, training in trainings.items()}
        for _ in range(_REPEATS + 1)
    ][1:]
    print(f"\n{network:<24}{'images/s':>26}{'cpu.FORMS / it':>24}")
    for name in variants:
        ratio = spread([each["all of cpu.FORMS"] / each[name] for each in speeds], ".2f")
        print(f"{name:<24}{spread([each[name] for each in speeds], ',.0f'):>26}{ratio:>24}")


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forms", description=__doc__)
    parser.add_argument("networks", nargs="*", default=["bn_dropout_14k", CnnConfig().model])
    networks = parser.parse_args().networks
    devices.start(CnnConfig())
    print(f"{devices.name(jax.devices())}, {_STEPS} steps, median of {_REPEATS} alternating repeats")
    for network in networks:
        measure(network)


if __name__ == "__main__":
    main()
