import csv
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import urllib.request
import zipfile
from pathlib import Path

import openpyxl
import pytest

from audit.spreadsheet import reading, recalculation
from audit.spreadsheet.annotate import annotated
from audit.spreadsheet.reading import read_sheets
from audit.spreadsheet.verdict import audit_file
from harness.errors import UserError
from tests.audit.spreadsheet.bounded import MEGABYTES
from tests.audit.spreadsheet.hostile import (
    CSV,
    ODS,
    OLE,
    RIGHT,
    XLSX,
    csv_table,
    following,
    merged_over_the_table,
    png,
    right,
)
from tests.audit.test_task import ROOT, audit, audit_in_a_process

KINDS = {".xlsx": XLSX, ".ods": ODS, ".csv": CSV}
CASES = [(kind, name) for kind, cases in KINDS.items() for name in cases]


def file_name(kind, name):
    return "".join(letter if letter.isalnum() else "_" for letter in name) + kind


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of each file: all are audited by one command, each in a bounded process."""
    folder = tmp_path_factory.mktemp("hostile")
    for kind, name in CASES:
        (folder / file_name(kind, name)).write_bytes(KINDS[kind][name][0]())
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.audit.spreadsheet.bounded",
            *(folder / file_name(*case) for case in CASES),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    return dict(zip(CASES, map(json.loads, lines), strict=True))


@pytest.mark.parametrize("case", CASES, ids="".join)
def test_hostile_files_are_refused_with_a_reason_in_bounded_memory(outcomes, case):
    kind, name = case
    found, expected = outcomes[case], KINDS[kind][name][1]
    assert expected in found["text"], found
    assert found["megabytes"] <= MEGABYTES
    assert all(letter.isprintable() or letter == "\n" for letter in found["text"])
    if found["verdict"] in ("unreadable", "no table", "nothing to check"):
        assert found["text"].startswith(file_name(kind, name))
        assert len(found["text"].splitlines()) == 1
    else:
        assert found["verdict"] != "right" or expected == RIGHT


def test_one_hostile_file_does_not_stop_the_others_of_a_folder(tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    names = ["macros inside", "billion laughs", "sizes that lie", "cmd", "cut", "millions of cells"]
    for name in names:
        (folder / file_name(".xlsx", name)).write_bytes(XLSX[name][0]())
    for name in ("steering \x1b[2J\nanna.xlsx  Sheet1  right", "=cmd|calc", "x;=1+1", "x" * 250, b"\xff"):
        (Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name) + b".csv")))).write_bytes(
            csv_table(value="=1+1")
        )
    (folder / "anna.xlsx").write_bytes(right())
    (folder / "anna.XLSX").write_bytes(right())
    (folder / "folder.xlsx").mkdir()
    (folder / "zero.xlsx").symlink_to("/dev/zero")
    (folder / "nowhere.xlsx").symlink_to("nothing.xlsx")
    os.mkfifo(folder / "pipe.csv")
    done = audit_in_a_process(folder, tmp_path / "out")
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert all(letter.isprintable() or letter == "\n" for letter in done.stdout)
    assert "5 files        E1: the cell shows =1+1, not a number" in done.stdout
    assert len(lines) == 1 + len(names) + 5 + 2 + 3 + 3 + 2  # heading, files, what recurs, where it is
    assert f"{len(names) + 10} files: 1 no table; 2 right; {len(names) + 2} unreadable; 5 wrong" in lines[-1]
    assert sum(line.startswith("anna") for line in lines) == 2
    copies = sorted((tmp_path / "out" / "audited").iterdir())
    assert len(copies) == 5
    for copy in copies:
        assert openpyxl.load_workbook(copy).worksheets[1]["U4"].data_type == "s"
    text = (tmp_path / "out" / "audit.csv").read_text()
    assert "\n'=cmd|calc.csv," in text
    assert "\nx;'=1+1.csv," in text
    with (tmp_path / "out" / "audit.csv").open(newline="") as stream:
        found = {row["file"]: row["notes"] for row in csv.DictReader(stream)}
    assert "is not a file" in found["pipe.csv"]
    assert "is not a file" in found["zero.xlsx"]
    assert "No such file" in found["nowhere.xlsx"]


@pytest.mark.parametrize("target", ["pipe", "/dev/zero"])
def test_what_is_no_file_ends_with_2_and_one_line(tmp_path, target):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "table.xlsx").symlink_to(target)
    done = audit(tmp_path / "table.xlsx", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("launch.py: table.xlsx cannot be read (it is not a file)")
    assert done.stderr.count("\n") == 1


def test_a_huge_and_an_unreadable_file_are_refused(tmp_path):
    with (tmp_path / "hole.csv").open("wb") as stream:
        stream.truncate(2**30)
    (tmp_path / "secret.csv").symlink_to("/proc/self/mem")  # nobody may read its start, not even root
    assert "is too large (1024 MB)" in audit_file(tmp_path / "hole.csv").refused
    assert "cannot be read" in audit_file(tmp_path / "secret.csv").refused


def test_a_marked_copy_opens_whatever_the_cells_hold(tmp_path):
    (tmp_path / "table.csv").write_bytes(csv_table(value="\x07\uffff=1+1"))
    content = annotated(audit_file(tmp_path / "table.csv"))
    assert (
        "the cell shows ??=1+1"
        in openpyxl.load_workbook(io.BytesIO(content)).worksheets[1]["U4"].comment.text
    )
    (tmp_path / "merged.xlsx").write_bytes(merged_over_the_table())
    audit = audit_file(tmp_path / "merged.xlsx")
    assert audit.verdict == "wrong"
    openpyxl.load_workbook(io.BytesIO(annotated(audit)))


def test_the_users_own_files_are_never_written_over(tmp_path):
    wrong = csv_table(value="1")
    for name in ("audited.xlsx", "audit.csv"):
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_bytes(wrong)
        (folder / "table.csv").write_bytes(wrong)
        done = audit(folder / "table.csv", folder)
        assert done.returncode == 2
        assert f"{name} there is not this audit's to replace" in done.stderr
        assert (folder / name).read_bytes() == wrong
    out = tmp_path / "out"
    assert audit(folder / "table.csv", out).returncode == 1
    marked = (out / "audited.xlsx").read_bytes()
    assert audit(out / "audited.xlsx", out).returncode == 2  # the earlier audit's copy, audited in its place
    assert (out / "audited.xlsx").read_bytes() == marked


def test_no_copy_is_written_through_a_link(tmp_path):
    folder, elsewhere = tmp_path / "class", tmp_path / "elsewhere"
    (folder / "out").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "mine.audited.xlsx").write_text("mine")
    (folder / "table.csv").write_bytes(csv_table(value="1"))
    (folder / "out" / "config.json").write_text('{"task": "audit", "flags": {}}')
    (folder / "out" / "audited").symlink_to(elsewhere)
    done = audit(folder, folder / "out")
    assert done.returncode == 2
    assert "audited is a symbolic link, and a run writes nothing outside its --workdir" in done.stderr
    assert [file.name for file in elsewhere.iterdir()] == ["mine.audited.xlsx"]


@pytest.fixture
def office():
    if shutil.which("soffice") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("soffice is missing")


@pytest.fixture
def server():
    """A web server on this machine: its address, and the paths it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_OPTIONS = do_PROPFIND = do_GET

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_no_formula_fetches_anything(office, server, tmp_path):
    address, asked = server
    formulas = [
        f'=_xlfn.WEBSERVICE("{address}/webservice")',
        f"=INDIRECT(\"'{address}/indirect.ods'#$Sheet1.A1\")",
        f"='{address}/[book.xlsx]Sheet1'!A1",
        f'=HYPERLINK("{address}/hyperlink")',
    ]
    book = openpyxl.Workbook()
    for row, formula in enumerate(formulas, start=1):
        book.active[f"A{row}"] = formula
    book.active["A9"] = "=1+1"
    book.save(tmp_path / "book.xlsx")
    with pytest.raises(UserError, match="refers to other files or addresses"):
        read_sheets(tmp_path / "book.xlsx")
    # Were the formulas not refused, LibreOffice's settings would still hold them back.
    (tmp_path / "computed.xlsx").write_bytes(recalculation.recalculated(book))
    assert openpyxl.load_workbook(tmp_path / "computed.xlsx", data_only=True).active["A9"].value == 2
    assert asked == []
    urllib.request.urlopen(f"{address}/control").close()
    assert asked == ["/control"]


@pytest.fixture
def isolated(office):
    if not recalculation.is_isolated():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no namespaces can be made here")


def test_an_ods_file_leads_to_no_picture_no_pipe_and_no_network(office, server, tmp_path):
    address, asked = server
    (tmp_path / "secret.png").write_bytes(png(64))
    os.mkfifo(tmp_path / "pipe.png")
    places = [(tmp_path / name).as_uri() for name in ("secret.png", "pipe.png")]
    (tmp_path / "table.ods").write_bytes(following(f"{address}/a.png", *places))
    done = audit(tmp_path / "table.ods", tmp_path / "out")
    assert (done.returncode, done.stderr) == (1, "")
    assert "FIRST WRONG    U4" in done.stdout
    assert asked == []
    with zipfile.ZipFile(tmp_path / "out" / "audited.xlsx") as copy:
        assert [name for name in copy.namelist() if "media" in name] == []


def test_an_xls_file_reads_no_other_file(isolated, tmp_path):
    (tmp_path / "secret.ods").write_bytes(following())
    book = openpyxl.load_workbook(io.BytesIO(right()))
    for row, name in ((98, "secret"), (99, "pipe")):
        address = (tmp_path / name).as_uri().replace("://", ':/"&"/')  # in two texts it is seen by nobody
        book.active[f"A{row}"] = f"=INDIRECT(\"'{address}.ods'#$a.A1\")"
    book.save(tmp_path / "table.xlsx")
    profile = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
    command = ["soffice", profile, "--headless", "--convert-to", "xls", "--outdir", tmp_path]
    subprocess.run([*command, tmp_path / "table.xlsx"], check=True, capture_output=True)
    os.mkfifo(tmp_path / "pipe.ods")
    (sheet,) = read_sheets(tmp_path / "table.xls")
    assert (sheet.cells[98, 1].value, sheet.cells[99, 1].value) == ("#REF!", "#REF!")


def test_where_libreoffice_cannot_be_isolated_no_xls_file_is_given_to_it(monkeypatch, office, tmp_path):
    monkeypatch.setattr(reading, "is_isolated", lambda: False)
    (tmp_path / "table.xls").write_bytes(OLE)
    with pytest.raises(UserError, match=r"cannot be kept from them here: .* save it as \.xlsx"):
        read_sheets(tmp_path / "table.xls")
