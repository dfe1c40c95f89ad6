"""What --task=demo does: check, load, serve until Ctrl-C."""

import contextlib
import importlib.util
import io
import socket
import threading

from demo.config import DemoConfig
from harness.errors import UserError, require
from harness.workdir import read_flags

_THIS_MACHINE = "127.0.0.1"


def run(config: DemoConfig) -> None:
    """Serve the page on this machine until it is interrupted.

    Raises:
      UserError: no Gradio, a port that is taken, a workdir without a trained network, no public link.
    """
    require(
        importlib.util.find_spec("gradio") is not None,
        '--task=demo needs Gradio: pip install -e ".[demo]"',
    )
    _require_free(config.port)
    if config.workdir is not None:
        read_flags(config.workdir, "mnist")
    # Importing JAX and Gradio takes seconds: what the user got wrong is said before.
    from cnn import devices
    from demo import page, trained

    devices.find()
    network = None if config.workdir is None else trained.load(config.workdir)
    blocks = page.build(network)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # what Gradio says of a link, and why not
            blocks.launch(
                server_name=_THIS_MACHINE,
                server_port=config.port,
                share=config.share,
                max_file_size=1,  # byte: no tab takes a file by Gradio's upload, which would keep it
                theme=page.THEME,
                css=page.STYLE,
                footer_links=[],
                ssr_mode=False,
                quiet=True,
                prevent_thread_lock=True,
            )
        require(
            not config.share or bool(blocks.share_url),
            "--share got no link from Gradio's servers: connect to the internet, or leave --share out",
        )
        print(f"The page is at {blocks.share_url or blocks.local_url}; Ctrl-C ends it.", flush=True)
        threading.Event().wait()
    finally:
        blocks.close(verbose=False)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_THIS_MACHINE, port))
        except OSError as error:
            raise UserError(f"--port={port} cannot be used ({error.strerror}): give another one") from error
