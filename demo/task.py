"""What --task=demo does: check, load, serve until Ctrl-C."""

import contextlib
import errno
import importlib.util
import io
import multiprocessing
import multiprocessing.util
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from types import FrameType
from urllib.parse import urlsplit

from demo import bounded
from demo.config import DemoConfig
from harness.errors import UserError, require
from harness.workdir import read_flags

_SECONDS_TO_END = 1  # of connections that are open
_ENDINGS = ("SIGTERM", "SIGHUP")  # a closed terminal's is the second; not every system has it


def run(config: DemoConfig) -> None:
    """Serve the page on this machine until it is interrupted.

    Raises:
      UserError: no Gradio, a port that is taken, a workdir without a trained network, no public link.
    """
    require(
        importlib.util.find_spec("gradio") is not None,
        '--task=demo needs Gradio: pip install -e ".[demo]"',
    )
    with _listening(config) as listener, _nothing_left():
        if config.workdir is not None:
            read_flags(config.workdir, "mnist")
        bounded.prepare()
        # Importing JAX and Gradio takes seconds: what the user got wrong is said before.
        import uvicorn

        from cnn import devices
        from demo import page, server, trained

        devices.find()
        network = None if config.workdir is None else trained.load(config.workdir)
        address, hosts = config.address, config.hosts
        if config.share:
            address = _public_link(config.port)
            hosts.append(str(urlsplit(address).hostname))
        app = server.application(page.build(network), hosts)
        print(f"The page is at {address}; Ctrl-C ends it.", flush=True)
        settings = uvicorn.Config(
            app, log_level="critical", ws="none", timeout_graceful_shutdown=_SECONDS_TO_END
        )
        uvicorn.Server(settings).run(sockets=[listener])


def _listening(config: DemoConfig) -> socket.socket:
    """A socket at which browsers may ask from now on; they are answered once the page is made."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family)
    except OSError as error:
        elsewhere = error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
        flag = f"--host={config.host}" if elsewhere else f"--port={config.port}"
        reason = os.strerror(error.errno or 0)
        raise UserError(f"{flag} cannot be used ({reason}): give another one") from error


@contextlib.contextmanager
def _nothing_left() -> Iterator[None]:
    """Temporary files are in a folder that is removed, whatever ends the page, and no process outlives it."""

    def end(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    for name in _ENDINGS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    multiprocessing.util.get_temp_dir()  # its own, which it removes itself
    with tempfile.TemporaryDirectory(prefix="page-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield
        finally:
            while children := multiprocessing.active_children():
                for child in children:
                    child.kill()
                time.sleep(0.05)
            for thread in threading.enumerate():  # those that waited for these processes
                if thread is not threading.main_thread() and not thread.daemon:
                    thread.join()


def _public_link(port: int) -> str:
    from gradio import networking

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            link: str = networking.setup_tunnel(
                local_host="127.0.0.1",
                local_port=port,
                share_token=secrets.token_urlsafe(32),
                share_server_address=None,
                share_server_tls_certificate=None,
            )
    except Exception as error:
        raise UserError(
            "--share got no link from Gradio's servers: connect to the internet, or leave --share out"
        ) from error
    return link
