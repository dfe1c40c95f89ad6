"""Ctrl-C, SIGTERM and SIGHUP: remembered, so that a run can save what it has before it ends."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from harness.errors import UserError

_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]  # SIGHUP: a closed laptop, a lost ssh; Windows has none


class Interrupted(UserError):
    """The run was asked to end and has saved its state; the exit code is 128 + the signal's number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"{signal.Signals(number).name}: {message}")
        self.exit_code = 128 + number


@contextlib.contextmanager
def remembered() -> Iterator[Callable[[], int | None]]:
    """Remember the first signal instead of ending at once; the second one ends the process.

    Yields:
      A function that returns the number of the signal that came, None while none has.
    """
    came: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        came.append(number)
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores one
    before = {number: signal.signal(number, remember) for number in heard}
    try:
        yield lambda: came[0] if came else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
