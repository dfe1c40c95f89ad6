"""How many cores a process may use, on imitated machines of 64: affinity and quotas of control groups."""

import os

import pytest

from cnn import cores

V2_MOUNT = "31 23 0:28 {root} {mount} rw,relatime shared:4 - cgroup2 cgroup rw,nsdelegate"
V1_MOUNT = "33 23 0:29 {root} {mount} rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "34 23 0:30 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
V1_GROUPS = "9:memory:/\n4:cpu,cpuacct:{group}\n0::/\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that imitates a machine: the lines of the process's groups and mounts, and files by path."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(os, "process_cpu_count", lambda: 64, raising=False)

    def imitate(groups, *mounts, **files):
        proc = tmp_path / "proc/self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text(groups)
        (proc / "mountinfo").write_text("22 27 0:21 / /proc rw - proc proc rw\n" + "\n".join(mounts) + "\n")
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return tmp_path

    return imitate


def v1(folder, quota, period=100_000):
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("limit", "count"),
    [
        ("max 100000", 64),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("100001 100000", 2),
        ("100000 100000", 1),
        ("10000 100000", 1),
        ("400000 50000", 8),
        ("9900000 100000", 64),
        ("", 64),
    ],
)
def test_a_container_with_version_2(limit, count, machine):
    """It sees its own group as the root of all, mounted at /sys/fs/cgroup itself."""
    mount = V2_MOUNT.format(root="/", mount="/sys/fs/cgroup")
    root = machine("0::/\n", mount, **{"sys/fs/cgroup/cpu.max": limit + "\n"})
    assert cores.usable(root) == count


@pytest.mark.parametrize(
    ("outer", "inner", "count"), [("200000 100000", "max 100000", 2), ("max 100000", "300000 100000", 3)]
)
def test_a_quota_holds_for_the_groups_below_it(outer, inner, count, machine):
    mount = V2_MOUNT.format(root="/", mount="/somewhere/else")
    files = {
        "somewhere/else/a.slice/cpu.max": outer,
        "somewhere/else/a.slice/b.scope/cpu.max": inner,
        "somewhere/else/other.slice/cpu.max": "100000 100000",
    }
    assert cores.usable(machine("0::/a.slice/b.scope\n", mount, **files)) == count


@pytest.mark.parametrize(("quota", "count"), [(-1, 64), (200_000, 2), (250_000, 3)])
@pytest.mark.parametrize(
    ("group", "mounted"), [("/docker/abc", "/docker/abc"), ("/", "/"), ("/docker/abc", "/another")]
)
def test_a_container_with_version_1(group, mounted, quota, count, machine):
    """Its group is mounted whether proc/self/cgroup names it as the machine does or as the container does."""
    mounts = [V1_MEMORY.format(root="/"), V1_MOUNT.format(root=mounted, mount="/sys/fs/cgroup/cpu,cpuacct")]
    files = v1("sys/fs/cgroup/cpu,cpuacct", quota) | v1("sys/fs/cgroup/memory", 100_000)
    assert cores.usable(machine(V1_GROUPS.format(group=group), *mounts, **files)) == count


def test_the_smallest_of_several_quotas_holds(machine):
    mounts = [
        V1_MOUNT.format(root="/", mount="/sys/fs/cgroup/cpu"),
        V2_MOUNT.format(root="/", mount="/sys/fs/cgroup/unified"),
    ]
    files = v1("sys/fs/cgroup/cpu", 3_000_000) | v1("sys/fs/cgroup/cpu/job", 400_000)
    files |= v1("sys/fs/cgroup/cpu/job/step", -1) | {"sys/fs/cgroup/unified/cpu.max": "600000 100000"}
    assert cores.usable(machine(V1_GROUPS.format(group="/job/step"), *mounts, **files)) == 4


def test_affinity_counts(machine, monkeypatch):
    mount = V2_MOUNT.format(root="/", mount="/sys/fs/cgroup")
    root = machine("0::/\n", mount, **{"sys/fs/cgroup/cpu.max": "800000 100000"})
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3)
    assert cores.usable(root) == 3
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5}, raising=False)
    assert cores.usable(root) == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    assert cores.usable(root) == 8  # of 64, by the quota


def test_a_machine_without_control_groups(machine, tmp_path):
    assert cores.usable(tmp_path) == 64


def test_what_is_said(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(cores, "_by_affinity", lambda: 2)
    monkeypatch.setattr(cores, "_quotas", lambda root: [])
    assert cores.described() == "2 of 64 cores usable"
