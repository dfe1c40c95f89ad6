"""What LibreOffice does: formulas' values, and .ods or .xls as .xlsx; it can run and fetch nothing."""

import io
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


def is_installed() -> bool:
    """Whether LibreOffice is there to compute."""
    return shutil.which("soffice") is not None


def recalculated(book: Workbook) -> bytes:
    """A workbook's .xlsx file with the values of its formulas.

    LibreOffice sees what openpyxl writes of the cells, not the file that somebody made.

    Raises:
      OSError, subprocess.SubprocessError: LibreOffice did not end well.
    """
    content = io.BytesIO()
    book.save(content)
    return converted(content.getvalue(), ".xlsx")


def converted(content: bytes, kind: str) -> bytes:
    """A spreadsheet of some kind, such as .ods, as LibreOffice writes it as .xlsx.

    Raises:
      OSError, subprocess.SubprocessError: LibreOffice did not end well.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy, profile = Path(folder, f"copy{kind}"), Path(folder, "profile")
        (profile / "user").mkdir(parents=True)
        (profile / "user" / "registrymodifications.xcu").write_text(_SETTINGS)
        copy.write_bytes(content)
        _run(
            *(str(shutil.which("soffice")), f"-env:UserInstallation={profile.as_uri()}", "--headless"),
            *("--convert-to", "xlsx", "--outdir", str(Path(folder, "out")), str(copy)),
        )
        return Path(folder, "out", "copy.xlsx").read_bytes()


def _run(*command: str) -> None:
    """Run a program; what it leaves running ends with the process that reads the file (audit.bounded).

    Raises:
      OSError, subprocess.SubprocessError: it did not end well.
    """
    null = subprocess.DEVNULL
    subprocess.run(command, stdin=null, stdout=null, stderr=null, check=True)
