"""What serves the page: Gradio's routes that it needs, two that take files, and limits for strangers."""

import asyncio
import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import anyio.to_thread
import gradio as gr
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo import bounded_audit, bounded_notebook, page
from demo.bounded import MOST_BYTES

_MOST_BYTES = 2**19  # of what is sent, but for a file: a drawing as base64
_SECONDS_TO_SEND = 30
_GRADIO = re.compile(
    r"/|/(config|theme\.css|manifest\.json|favicon\.ico|robots\.txt)|/(assets|static)/.+"
    r"|/gradio_api/(startup-events|heartbeat/\w+|queue/join|queue/data|cancel|reset)"
)
"""Its other routes take files, fetch from other hosts, read files, or say more than visitors need."""

Answer = TypeVar("Answer")


def application(blocks: gr.Blocks, hosts: Collection[str]) -> Starlette:
    """The page and the routes for files, behind the limits.

    Args:
      blocks: the page.
      hosts: names and addresses under which it may be asked for.
    """
    places = _Places()
    app = Starlette(
        routes=[
            _file_route("/files/spreadsheet", lambda *file: {"html": bounded_audit.audited(*file)}, places),
            _file_route("/files/notebook", lambda *file: bounded_notebook.read(*file)._asdict(), places),
        ],
        middleware=[
            Middleware(_Guard),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(RequestBodyLimitMiddleware, max_body_size=_MOST_BYTES),
        ],
    )
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        theme=page.THEME,
        css=page.STYLE,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
    )
    return app


class _Guard:
    """Refuses what the page itself never asks for, and bodies that come too slowly.

    A connection on which something unread is left is closed: it would be read to no end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers, time = Headers(scope=scope), asyncio.get_running_loop().time
        unread = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        ends = time() + _SECONDS_TO_SEND

        async def timely() -> Message:
            nonlocal unread
            if not unread:
                return await receive()
            try:
                async with asyncio.timeout_at(ends):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"it did not arrive within {_SECONDS_TO_SEND} seconds") from None
            unread = message.get("more_body", False)
            return message

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and unread:
                MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        app = self.app
        if not (_GRADIO.fullmatch(scope["path"]) or scope["path"].startswith("/files/")):
            app = PlainTextResponse("the page has nothing here", 404)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            app = PlainTextResponse("another site's page may not use this one: open it itself", 403)
        await app(scope, timely, closing)


class _Places:
    """Who waits for whom, so that nobody's slow files are everybody's.

    A file that takes longer than a moment gives its place to the next, and runs on beside it; how many may,
    is bounded for each visitor (an open page), for each address, and for all together.
    """

    QUICK, MOMENT = 4, 5  # files at once that take less than so many seconds
    OF_A_VISITOR, OF_AN_ADDRESS, OF_ALL = 2, 8, 16
    WAITING, ALL_WAITING = 64, 256  # of an address; of all

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()
        self._running: WeakValueDictionary[tuple[str, ...], asyncio.Semaphore] = WeakValueDictionary()
        self._quick = asyncio.Semaphore(self.QUICK)

    @contextlib.contextmanager
    def waiting(self, address: str) -> Iterator[None]:
        """One more of that address is here.

        Raises:
          HTTPException: too many are.
        """
        if self._waiting[address] >= self.WAITING or self._waiting.total() >= self.ALL_WAITING:
            raise HTTPException(429, "too many files are waiting: try again in a minute")
        self._waiting[address] += 1
        try:
            yield
        finally:
            self._waiting[address] -= 1
            self._waiting += Counter()  # forgets who has none

    async def run(self, address: str, visitor: str, work: Callable[[], Answer]) -> Answer:
        """What the work gives, in its turn."""
        async with (
            self._at_most(self.OF_A_VISITOR, address, visitor),
            self._at_most(self.OF_AN_ADDRESS, address),
            self._at_most(self.OF_ALL),
        ):
            async with self._quick:
                answer = asyncio.ensure_future(anyio.to_thread.run_sync(work))
                await asyncio.wait([answer], timeout=self.MOMENT)
            return await answer

    def _at_most(self, places: int, *whose: str) -> asyncio.Semaphore:
        return self._running.setdefault(whose, asyncio.Semaphore(places))


def _file_route(path: str, read: Callable[[str, bytes], Mapping[str, Any]], places: _Places) -> Route:
    """A route that takes a file as its body, its name and who sends it in the query, and answers in JSON."""

    async def answer(request: Request) -> JSONResponse:
        name, visitor = (request.query_params.get(key, "") for key in ("name", "visitor"))
        address = request.client.host if request.client else ""
        with places.waiting(address), tempfile.TemporaryFile() as file:
            async for part in request.stream():
                file.write(part)
            file.seek(0)
            return JSONResponse(await places.run(address, visitor, lambda: read(name, file.read())))

    return Route(path, answer, methods=["POST"], max_body_size=MOST_BYTES)
