"""Attacks on the command line, by files as strangers hand them in.

Each function is one: it writes what it needs to a folder and starts launch.py. What must not come of it is an
assertion.
"""

import functools
import http.server
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import traceback
import zipfile
from pathlib import Path

import openpyxl

from tests.audit.notebook import test_hostile as notebooks
from tests.audit.notebook.written import LOADERS, LOOPS, TRAINING, write
from tests.audit.spreadsheet import hostile
from tests.test_pipes import NAMES, PLACES

ROOT = Path(__file__).parents[2]
SECONDS = 90  # of processors: a file's own, and the start
NEVER = 600  # seconds: what has not ended by then does not end, on however busy a machine
GIGABYTES = 1.5  # of its process: its own, and the program's


def launched(folder, *flags):
    """A command, whose temporary files must be gone after it, within time and memory."""
    temporary = folder / "temporary"
    temporary.mkdir()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "launch.py", *flags],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=NEVER,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS
    assert after.ru_maxrss < GIGABYTES * 2**20
    assert "Traceback" not in done.stderr
    assert list(temporary.iterdir()) == []
    return done


def audited(folder, file, what="workbook"):
    return launched(folder, "--task=audit", f"--{what}={file}", f"--workdir={folder / 'out'}")


def a_spreadsheet(kind, name, folder):
    """One of tests.audit.spreadsheet.hostile."""
    make, said = {".xlsx": hostile.XLSX, ".ods": hostile.ODS, ".csv": hostile.CSV}[kind][name]
    file = folder / f"file{kind}"
    file.write_bytes(make())
    done = audited(folder, file)
    assert said in done.stdout + done.stderr, done
    # Refused in one line; or not shown, which is a verdict and has its report.
    assert done.returncode != 2 or done.stderr.count("\n") == 1 or "NOT SHOWN" in done.stdout


def a_notebook(name, folder):
    """One of tests.audit.notebook.test_hostile."""
    if name in notebooks.FILES:
        file = folder / "strange.ipynb"
        file.write_bytes(notebooks.FILES[name])
    else:
        file = write(
            folder, notebooks.IMPORTS, notebooks.WRITES + notebooks.CODE[name], LOADERS, LOOPS, TRAINING
        )
    done = audited(folder, file, "notebook")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not list(ROOT.glob("trace"))


def no_file(flags, kind, folder):
    """A pipe or a device where a file belongs (tests.test_pipes)."""
    (folder / "outer.txt").write_text(f"--task=audit\n--flagfile={folder}/flags.txt\n")
    if kind == "pipe":
        os.mkfifo(folder / PLACES[flags])
    else:
        (folder / PLACES[flags]).symlink_to("/dev/zero")
    done = launched(folder, *flags.format(folder).split())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def a_pipe_among_images(name, folder):
    """A pipe in the place of one of a data set's four files."""
    for each in NAMES:
        (folder / each).write_bytes(bytes((0, 0, 8, 3 if "images" in each else 1)) + bytes(12))
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert launched(folder, "--task=mnist", f"--dataset={folder}").returncode == 2


def followed(what, folder):
    """An .ods file with what LibreOffice follows, to a server, a picture and a pipe."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_OPTIONS = do_PROPFIND = do_GET

        def log_message(self, *_):
            pass

    (folder / "secret.png").write_bytes(hostile.png(64))
    os.mkfifo(folder / "pipe.png")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        places = [(folder / name).as_uri() for name in ("secret.png", "pipe.png")]
        places.append(f"http://127.0.0.1:{server.server_port}/a.png")
        (folder / "file.ods").write_bytes(hostile.following(*places, what=[what]))
        done = audited(folder, folder / "file.ods")
        server.shutdown()
    assert done.returncode == 1, done
    assert asked == []
    with zipfile.ZipFile(folder / "out" / "audited.xlsx") as copy:
        assert not any("media" in name for name in copy.namelist())


def an_xls_file_that_reads_others(folder):
    """Its formula leads to a pipe, by an address that is put together."""
    book = openpyxl.load_workbook(io.BytesIO(hostile.right()))
    address = (folder / "pipe.ods").as_uri().replace("://", ':/"&"/')
    book.active["A99"] = f"=INDIRECT(\"'{address}'#$a.A1\")"
    book.save(folder / "file.xlsx")
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = ["soffice", profile, "--headless", "--convert-to", "xls", "--outdir", folder]
    subprocess.run([*command, folder / "file.xlsx"], check=True, capture_output=True)
    os.mkfifo(folder / "pipe.ods")
    done = audited(folder, folder / "file.xls")
    assert done.returncode == 0 or "save it as .xlsx" in done.stderr


def a_number_of_thousands_of_digits(where, folder):
    digits = "9" * 4000
    file = folder / "file.ipynb"
    if where == "a flag":
        done = launched(folder, "--task=mnist", f"--epochs={digits}")
    elif where == "a config":
        (folder / "config.json").write_text(f'{{"task": "mnist", "sha256": {digits * 2}}}')
        done = launched(folder, "--task=mnist", "--resume", f"--workdir={folder}")
    else:
        content = json.loads(notebooks.notebook())
        content["cells"][0] |= (
            {"execution_count": "D"} if where == "a count" else {"source": f"a = 0x{'f' * 5000}"}
        )
        file.write_text(json.dumps(content).replace('"D"', digits * 2))
        done = audited(folder, file, "notebook")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


ATTACKS = {
    **{
        f"spreadsheet, {name}{kind}": functools.partial(a_spreadsheet, kind, name)
        for kind, cases in ((".xlsx", hostile.XLSX), (".ods", hostile.ODS), (".csv", hostile.CSV))
        for name in cases
    },
    **{
        f"notebook, {name}": functools.partial(a_notebook, name)
        for name in (*notebooks.FILES, *notebooks.CODE)
    },
    **{
        f"{kind}, {flags}": functools.partial(no_file, flags, kind)
        for flags in PLACES
        for kind in ("pipe", "device")
    },
    **{f"pipe, {name}": functools.partial(a_pipe_among_images, name) for name in NAMES},
    **{f"followed, {what}": functools.partial(followed, what) for what in hostile.FOLLOWED},
    "an .xls file that reads others": an_xls_file_that_reads_others,
    **{
        f"thousands of digits, {where}": functools.partial(a_number_of_thousands_of_digits, where)
        for where in ("a flag", "a config", "a count", "code")
    },
}


def main(chosen=""):
    """Try all of them, or those whose name holds some words; how many were withstood."""
    attacks = {name: attack for name, attack in ATTACKS.items() if chosen in name}
    withstood = 0
    for name, attack in attacks.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                attack(Path(folder))
                withstood += 1
            except Exception:
                print(f"command line: {name}: SUCCEEDED")
                traceback.print_exc()
    print(f"command line: {withstood} of {len(attacks)} attacks withstood")
    return withstood == len(attacks)


if __name__ == "__main__":
    sys.exit(not main(*sys.argv[1:]))
