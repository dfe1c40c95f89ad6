"""Attacks on the page, as strangers try them on one that is being served.

Each function is one; what it must not reach is an assertion.
"""

import concurrent.futures
import contextlib
import http.client
import io
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse
import zlib
from base64 import b64encode
from pathlib import Path
from typing import NamedTuple

import openpyxl

LONG = 300 * 2**20  # bytes
SENT_AT_MOST = 16 * 2**20  # before a refusal: the limit, and what sockets hold
NEVER = 120  # seconds: what has not come by then does not come, on however busy a machine
ROOT = Path(__file__).parents[2]
WORKBOOKS = Path(__file__).parents[1] / "audit" / "spreadsheet" / "workbooks"


OFFLINE = """
import os, sys

def refuse(event, arguments):
    names = event == "socket.getaddrinfo"
    sends = event in ("socket.connect", "socket.sendto", "socket.sendmsg") and type(arguments[1]) is tuple
    if names or sends:
        print("refused:", event, *arguments, file=sys.stderr, flush=True)
        os._exit(70)

sys.addaudithook(refuse)
"""  # Python imports it as sitecustomize: the page ends where it or a child of it asks another host


class Programs:
    """A folder of programs for PATH: LibreOffice that waits until it is released, and a Ghostscript."""

    def __init__(self, folder):
        self.folder = folder
        for name, content in (
            (
                "soffice",
                f"echo $$ > {folder}/runs\nwhile [ ! -e {folder}/released ]; do sleep 0.1; done\nexit 1\n",
            ),
            ("gs", f"touch {folder}/gs-ran\nexit 1\n"),
        ):
            (folder / name).write_text(f"#!/bin/sh\n{content}")
            (folder / name).chmod(0o755)
        (folder / "sitecustomize.py").write_text(OFFLINE)

    def wait(self):
        while not (self.folder / "runs").exists():
            time.sleep(0.05)

    def release(self):
        (self.folder / "released").touch()

    @contextlib.contextmanager
    def held(self):
        """LibreOffice waits until this ends."""
        for name in ("runs", "released"):
            (self.folder / name).unlink(missing_ok=True)
        try:
            yield
        finally:
            self.release()


class Served(NamedTuple):
    """A page: its process, its address, its folder for temporary files, its PATH, its trained run."""

    process: subprocess.Popen
    address: str
    temporary: Path
    programs: Programs
    run: Path

    @property
    def host(self):
        return urllib.parse.urlsplit(self.address).netloc

    @property
    def megabytes(self):
        """The most memory that its process has ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def files(self):
        return {file for file in self.temporary.rglob("*") if file.is_file()}

    def ask(self, method, path, body=None, **headers):
        """Status, headers and text of the answer."""
        connection = http.client.HTTPConnection(self.host, timeout=NEVER)
        with contextlib.closing(connection):
            connection.request(method, path, body, {"Host": self.host} | headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode(errors="replace")

    def judge(self, name, content, visitor="somebody"):
        """What the page says of a spreadsheet."""
        query = urllib.parse.urlencode({"name": name, "visitor": visitor})
        status, _, text = self.ask("POST", f"/files/spreadsheet?{query}", content)
        return text if status != 200 else json.loads(text)["html"]

    def trigger(self, elem_id, *data):
        """What Gradio answers to an event of a component: whether it succeeded, and its output."""
        config = json.loads(self.ask("GET", "/config")[2])
        (component,) = (
            each["id"] for each in config["components"] if each["props"].get("elem_id") == elem_id
        )
        function = next(
            each["id"] for each in config["dependencies"] if component in [to[0] for to in each["targets"]]
        )
        session = os.urandom(8).hex()
        sent = {"data": data, "fn_index": function, "session_hash": session}
        status, _, text = self.ask(
            "POST", "/gradio_api/queue/join", json.dumps(sent), **{"Content-Type": "application/json"}
        )
        assert status == 200, text
        for line in self.ask("GET", f"/gradio_api/queue/data?session_hash={session}")[2].splitlines():
            message = json.loads(line.removeprefix("data: ")) if line else {}
            if message.get("msg") == "process_completed":
                return message["success"], message["output"]
        raise AssertionError("no answer")


@contextlib.contextmanager
def served(folder, *flags, run, **environment):
    """A page whose temporary files and programs are in the folder."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for name in ("temporary", "programs"):
        (folder / name).mkdir()
    programs = Programs(folder / "programs")
    process = subprocess.Popen(
        [sys.executable, "launch.py", "--task=demo", f"--port={port}", *flags],
        cwd=ROOT,
        env=os.environ
        | {"TMPDIR": str(folder / "temporary"), "PATH": f"{programs.folder}:{os.environ['PATH']}"}
        | {"PYTHONPATH": str(programs.folder)}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        assert line == f"The page is at http://127.0.0.1:{port}/; Ctrl-C ends it.\n", process.communicate()
        yield Served(process, f"http://127.0.0.1:{port}/", folder / "temporary", programs, run)
    finally:
        process.kill()
        process.communicate()


ROUTES = (
    *(
        "/",
        "/config",
        "/login",
        "/gradio_api/upload",
        "/gradio_api/component_server",
        "/gradio_api/queue/join",
    ),
    *("/gradio_api/run/x", "/files/spreadsheet?name=a.xlsx", "/files/notebook?name=a.ipynb", "/nowhere"),
)


def bodies_that_announce_too_much(served):
    """Refused before a byte of them is sent."""
    before = served.megabytes
    for route in ROUTES:
        status, sent = _send(served, route, f"Content-Length: {LONG}", [])
        assert status >= 400, route
        assert sent == 0
    assert served.megabytes < before + 20


def bodies_without_an_end(served):
    """Refused as soon as they are too much, and not read any longer."""
    before = served.megabytes
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    for route in ROUTES:
        _, sent = _send(served, route, "Transfer-Encoding: chunked", (chunk for _ in range(LONG // 2**16)))
        assert sent < SENT_AT_MOST, route
    assert served.megabytes < before + 50


def _send(served, route, header, parts):
    """The answer's status (0 where the connection ended without), and how many bytes were sent before."""
    host, port = served.host.split(":")
    sent, answer = 0, b""
    with socket.create_connection((host, int(port)), timeout=NEVER) as connection:
        lines = (f"POST {route} HTTP/1.1", f"Host: {served.host}", "Content-Type: application/json", header)
        connection.sendall("\r\n".join((*lines, "", "")).encode())
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
                sent += len(part)
        with contextlib.suppress(ConnectionError):
            answer = connection.recv(100)
    return int(answer.split()[1]) if answer else 0, sent


def other_hosts(served):
    """DNS rebinding: a name of somebody else's leads here."""
    for host in (
        "evil.example",
        f"evil.example:{served.host.split(':')[1]}",
        "127.0.0.1.evil.example",
        "",
        "*",
    ):
        for method in ("GET", "POST", "OPTIONS"):
            preflight = {"Origin": f"http://{host}", "Access-Control-Request-Method": "POST"}
            status, headers, _ = served.ask(method, "/config", Host=host, **preflight)
            assert status in (400, 403), host
            assert "access-control-allow-credentials" not in headers


def other_sites(served):
    """Another site's page asks in a visitor's browser."""
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", f"http://{served.host}.evil.example"):
        for method in ("GET", "POST", "OPTIONS"):
            preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            status, headers, text = served.ask(method, "/config", **preflight)
            assert (status, "another site" in text) == (403, True), origin
            assert not [name for name in headers if name.startswith("access-control")]
    assert served.ask("GET", "/config", Origin=f"http://{served.host}")[0] == 200


def routes_that_lead_elsewhere(served):
    """Gradio fetches, reads and keeps for whoever asks."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        there = f"127.0.0.1:{trap.getsockname()[1]}"
        for path in (
            *(f"/gradio_api/proxy=http://{there}/x", "/gradio_api/proxy=http://nowhere.hf.space/x"),
            *(
                f"/gradio_api/file=http://{there}/x",
                "/gradio_api/file=/etc/passwd",
                "/gradio_api/file/etc/passwd",
            ),
            *("/gradio_api/run-history/buckets", "/gradio_api/runs", "/monitoring", "/monitoring/summary"),
            *("/gradio_api/deep_link?session_hash=x", "/gradio_api/info", "/gradio_api/openapi.json"),
            *("/gradio_api/dev/reload", "/gradio_api/custom_component/x/client/component/y", "/docs"),
        ):
            assert served.ask("GET", path)[0] == 404, path
        for path in (
            *("/gradio_api/run-history/connect", "/gradio_api/vibe-edit", "/gradio_api/process_recording"),
            *("/gradio_api/call/step", "/gradio_api/run/step", "/gradio_api/component_server", "/login"),
        ):
            assert served.ask("POST", path, "{}")[0] == 404, path
        with contextlib.suppress(TimeoutError):
            trap.accept()
            raise AssertionError("the page asked another host")


def files_that_nobody_asked_for(served):
    """Gradio's upload would keep whatever is sent."""
    before = served.files()
    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n1\r\n--x--\r\n'
    for _ in range(50):
        status, _, _ = served.ask(
            "POST", "/gradio_api/upload", form, **{"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert status == 404
    assert served.files() == before


def files_of_odd_names(served):
    for name in ("..", ".", "/", "../..", "\0", "a/..", "\ud800".encode("utf-8", "surrogatepass")):
        assert 'class="refused"' in served.judge(name, b"1,2\n"), name


def folders_of_this_machine(served):
    for path in ("/", "/config"):
        text = served.ask("GET", path)[2]
        assert served.run.name in text
        assert str(served.run.parent) not in text
        assert str(served.temporary) not in text


def slow_files(served):
    """Of four visitors: others are served before one of them is."""
    right = (WORKBOOKS / "00_right.xlsx").read_bytes()
    before = served.files()
    with served.programs.held(), concurrent.futures.ThreadPoolExecutor() as people:
        slow = [people.submit(served.judge, "slow.xlsx", slow_file(), str(who)) for who in range(4)]
        served.programs.wait()
        assert "00_right.xlsx: RIGHT" in served.judge("00_right.xlsx", right)
        assert not [each for each in slow if each.done()]
        served.programs.release()
    assert all('class="refused">slow.xlsx' in each.result() for each in slow)
    assert served.files() == before


def slow_file():
    """A spreadsheet without its values, which LibreOffice would compute."""
    book = openpyxl.Workbook()
    book.active["A1"] = "=1+1"
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def drawings_that_are_none(served):
    """Nothing but the page's own kind of PNG meets a decoder; nothing stays."""
    before, memory = served.files(), served.megabytes
    for drawing in not_drawings():
        success, output = served.trigger("paper", f"data:image/png;base64,{b64encode(drawing).decode()}")
        assert not success
        assert "no drawing of this page" in str(output["error"]), drawing[:40]
    assert not (served.programs.folder / "gs-ran").exists()
    assert served.megabytes < memory + 50
    for ink in (0, 255):
        success, output = served.trigger("paper", f"data:image/png;base64,{b64encode(png(ink=ink)).decode()}")
        assert success, output
    assert served.files() == before


def not_drawings():
    """Bytes that call themselves a drawing."""
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 280 280\n{} loop\n%%EOF\n"
    return [
        *(b"", b"GIF89a", b"not base64", postscript, png()[:8] + postscript, png()[:33] + postscript),
        *(png(13_300, 13_300), png(1, 1), png(280, 281), png()[:100], png(damaged=True)),
        png() + bytes(2**18) + postscript * 2000,
    ]


def png(width=280, height=280, *, ink=0, damaged=False):
    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    rows = (b"\0" + bytes((0, 0, 0, ink)) * width) * height if width * height < 10**6 else bytes(1000)
    pixels = zlib.compress(rows)
    start = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*each)
        for each in (
            (b"IHDR", start),
            (b"IDAT", pixels[: len(pixels) // 2] if damaged else pixels),
            (b"IEND", b""),
        )
    )


ATTACKS = (
    *(bodies_that_announce_too_much, bodies_without_an_end, other_hosts, other_sites),
    *(routes_that_lead_elsewhere, files_that_nobody_asked_for, files_of_odd_names, folders_of_this_machine),
    *(slow_files, drawings_that_are_none),
)


def main():
    """Try all of them on a page with a network that was trained for a moment; how many it withstood."""
    withstood = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        flags = ("--model=plain_4k", "--epochs=1", "--validation_size=59000", f"--workdir={folder / 'run'}")
        subprocess.run(
            [sys.executable, "launch.py", "--task=mnist", *flags],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with served(folder, f"--workdir={folder / 'run'}", run=folder / "run") as page:
            for attack in ATTACKS:
                try:
                    attack(page)
                    withstood += 1
                except Exception:
                    print(f"page: {attack.__name__}: SUCCEEDED")
                    traceback.print_exc()
    print(f"page: {withstood} of {len(ATTACKS)} attacks withstood")
    return withstood == len(ATTACKS)


if __name__ == "__main__":
    sys.exit(not main())
