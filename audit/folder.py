"""The folder of an audit: what it writes there, and nothing of anybody else's is replaced."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from audit.config import AuditConfig
from harness.errors import require
from harness.workdir import open_workdir, read_flags, write_config

_WRITTEN = (
    *("audit.csv", "mistakes.csv", "audited.xlsx", "audited", "claims.csv", "layers.csv", "log.csv"),
    *("spreadsheets.csv", "standing.png", "standing.svg", "summary.json", "report.html"),
)


def left_by_earlier(workdir: str | None) -> list[Path]:
    """What an earlier audit wrote in the folder that --workdir names: it is not audited in its turn."""
    own = Path(workdir).expanduser() if workdir else None
    return [(own / name).resolve() for name in _WRITTEN] if own and (own / "config.json").exists() else []


def open_for(config: AuditConfig, *given: Path) -> Path:
    """The folder of the run, without what an earlier audit left there.

    It is refused where a given file, or one that no audit wrote, stands in the place of one to write.
    """
    workdir = open_workdir(config.workdir, "audit")
    earlier = (workdir / "config.json").exists()
    if earlier:
        read_flags(str(workdir), "audit")  # refuses another task's run
    real = [path.resolve() for path in given]
    for file in (workdir / name for name in _WRITTEN):
        own = earlier and not file.is_symlink()
        own = own and not any(path.is_relative_to(file.resolve()) for path in real)
        require(
            own or not os.path.lexists(file),
            f"--workdir={config.workdir}: {file.name} there is not this audit's to replace: "
            "choose another --workdir",
        )
    for name in _WRITTEN:
        if name != "audited":
            (workdir / name).unlink(missing_ok=True)
    for copy in (workdir / "audited").rglob("*.audited.xlsx"):
        copy.unlink()
    write_config(workdir, "audit", config, device="CPU")
    return workdir


def exit_code(verdicts: Sequence[str]) -> int:
    """1 where one is wrong, else 2 where one is neither right nor wrong, else 0."""
    if "wrong" in verdicts:
        return 1
    return 0 if all(verdict.startswith("right") for verdict in verdicts) else 2


def counted(verdicts: Sequence[str]) -> str:
    """How many have each verdict."""
    return "; ".join(f"{count} {verdict}" for verdict, count in sorted(Counter(verdicts).items()))
