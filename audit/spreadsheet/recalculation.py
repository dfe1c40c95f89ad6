"""What LibreOffice does, and nothing else that it could: formulas' values, and .ods or .xls as .xlsx."""

import functools
import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from openpyxl.workbook import Workbook

_SETTINGS = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry">
<item oor:path="/org.openoffice.Office.Common/Security/Scripting">
<prop oor:name="DisableMacrosExecution"><value>true</value></prop>
<prop oor:name="DisableActiveContent"><value>true</value></prop>
<prop oor:name="BlockUntrustedRefererLinks"><value>true</value></prop>
<prop oor:name="MacroSecurityLevel"><value>3</value></prop></item>
<item oor:path="/org.openoffice.Office.Calc/Content/Update">
<prop oor:name="Link"><value>1</value></prop></item>
</oor:items>
"""
"""Of LibreOffice: macros never run, links are never updated."""
_UNSHARE = ("unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child")
_ALONE = """
set -e
folder=$1; shift
mkdir -p "$folder/root"
mount -t tmpfs tmpfs "$folder/root"
cd "$folder/root"
for path in /bin /lib /lib32 /lib64 /usr /opt /etc/alternatives /etc/fonts /etc/ld.so.cache /etc/libreoffice \
    /dev/null /dev/urandom "$folder"; do
  mkdir -p ".${path%/*}"
  if [ -L "$path" ]; then cp -P "$path" ".$path"
  elif [ -e "$path" ]; then
    if [ -d "$path" ]; then mkdir -p ".$path"; else touch ".$path"; fi
    mount --rbind "$path" ".$path"
  fi
done
mkdir -p proc tmp
mount -t proc proc proc
exec chroot . "$@"
"""
"""Run a command with no network, and with no files but the system's programs and those of one folder."""


def is_installed() -> bool:
    """Whether LibreOffice is there to compute."""
    return shutil.which("soffice") is not None


@functools.cache
def is_isolated() -> bool:
    """Whether LibreOffice can be kept from all else here: that takes Linux, and leave to make namespaces."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _run(folder, *_isolated(folder), "test", "-x", _program())
        except (OSError, subprocess.SubprocessError):
            return False
    return True


def recalculated(book: Workbook) -> bytes:
    """A workbook's .xlsx file with the values of its formulas.

    LibreOffice sees what openpyxl writes of the cells, not the file that somebody made.
    """
    content = io.BytesIO()
    book.save(content)
    return converted(content.getvalue(), ".xlsx")


def converted(content: bytes, kind: str) -> bytes:
    """A spreadsheet of some kind, such as .ods, as LibreOffice writes it as .xlsx.

    Raises OSError or subprocess.SubprocessError where LibreOffice does not end well.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy, profile = Path(folder, f"copy{kind}"), Path(folder, "profile")
        (profile / "user").mkdir(parents=True)
        (profile / "user" / "registrymodifications.xcu").write_text(_SETTINGS)
        copy.write_bytes(content)
        _run(
            folder,
            *(_isolated(folder) if is_isolated() else ()),
            *(_program(), f"-env:UserInstallation={profile.as_uri()}", "--headless"),
            *("--convert-to", "xlsx", "--outdir", str(Path(folder, "out")), str(copy)),
        )
        return Path(folder, "out", "copy.xlsx").read_bytes()


def _program() -> str:
    return os.path.realpath(str(shutil.which("soffice")))


def _isolated(folder: str) -> tuple[str, ...]:
    """What to put before a command that is to see nothing but this folder."""
    return (*_UNSHARE, "sh", "-c", _ALONE, "sh", folder)


def _run(folder: str, *command: str) -> None:
    """Run a program; its own temporary files are in the folder, too.

    What it leaves running ends with the process that reads the file (audit.bounded).
    """
    places = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
    null = subprocess.DEVNULL
    subprocess.run(command, env=places, stdin=null, stdout=null, stderr=null, check=True)
