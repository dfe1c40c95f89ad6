"""A stranger's notebook, read in a process of its own."""

from audit.api import Notebook, read_notebook
from demo.bounded import SECONDS, Refused, read_in_a_process


def read(name: str, content: bytes, seconds: float = SECONDS) -> Notebook:
    """Read a notebook or a .py file; the process that does it is ended after so many seconds."""
    try:
        return read_in_a_process(read_notebook, name, content, seconds=seconds)
    except Refused as refused:
        return Notebook("", str(refused))
