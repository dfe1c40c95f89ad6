"""The number of cores that this process may use. No JAX here."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable(root: Path = Path("/")) -> int:
    """Return the cores that affinity and the quotas of control groups leave this process, at least 1.

    They are rounded up, as by Go and Java: a quota of 1.5 cores stops all threads alike, so that two devices
    wait little for each other, and with one device half a core would be idle.

    Args:
      root: the folder that holds proc and what is mounted; another one than / imitates a machine.
    """
    return max(1, math.ceil(min([_by_affinity(), *_quotas(root)])))


def described() -> str:
    """Return how many of the machine's cores are usable, such as "2 of 64 cores usable"."""
    return f"{usable()} of {os.cpu_count()} cores usable"


def _by_affinity() -> int:
    if hasattr(os, "process_cpu_count"):  # from Python 3.13 on
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # where the system is Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[float]:
    """The quotas of the control groups that this process is in, in cores; one of infinity is none.

    proc/self/cgroup names the groups, proc/self/mountinfo where their folders are mounted (the manual pages
    cgroups(7) and proc_pid_mountinfo(5)). A quota holds for the groups below it, too.
    """
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:  # not Linux
        return
    own: dict[str, str] = {}  # the process's group by controller; that of version 2 has no name
    for line in groups:
        _, controllers, path = line.split(":", 2)
        own |= dict.fromkeys(controllers.split(","), path)
    for line in mounts:
        fields, _, (kind, _, options, *_) = (part.split(" ") for part in line.partition(" - "))
        if kind not in ("cgroup", "cgroup2") or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        mounted, folder = PurePosixPath(fields[3]), root / fields[4].lstrip("/")
        group = PurePosixPath(own.get("" if kind == "cgroup2" else "cpu", "/"))
        below = group.relative_to(mounted) if group.is_relative_to(mounted) else PurePosixPath()
        for place in (below, *below.parents):
            yield _quota(folder / place)


def _quota(folder: Path) -> float:
    """Return the cores of cpu.max (version 2), or of cpu.cfs_quota_us and cpu.cfs_period_us (version 1)."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return math.inf if quota == "max" or int(quota) < 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return math.inf
