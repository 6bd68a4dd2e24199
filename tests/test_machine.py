"""What a process may have of this machine, control groups of both versions included."""

import os
from pathlib import Path

import pytest

from objectives import machine


def test_memory_that_is_available_is_less_than_all():
    assert 0 < machine.available_memory() <= machine.total_memory() < 2**50


def test_this_process_has_reached_some_memory_and_a_dead_one_none():
    assert machine.memory_reached(1 << 30) is None
    assert 0 < machine.memory_reached(os.getpid()) < machine.total_memory()


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Lays control files where this process's groups are."""
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    own = Path("/proc/self/cgroup").read_text().splitlines()

    def lay(name, text, *, version):
        for line in own:
            number, controllers, path = line.split(":", 2)
            controller = "memory" if name.startswith("memory") else "cpu"
            if version == 2 and number == "0":
                folder = tmp_path / path.strip("/")
            elif version == 1 and controller in controllers.split(","):
                folder = tmp_path / controller / path.strip("/")
            else:
                continue
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
            return
        pytest.skip(f"this system has no control groups of version {version}")

    return lay


def test_a_control_group_of_version_2_limits_memory_and_cores(groups):
    groups("memory.max", f"{2 << 30}\n", version=2)
    groups("memory.current", f"{1 << 30}\n", version=2)
    groups("cpu.max", "50000 100000\n", version=2)
    assert machine.memory_limit() == machine.total_memory() == 2 << 30
    assert machine.available_memory() == 1 << 30
    assert machine.cores() == 0.5


def test_a_control_group_of_version_1_limits_memory_and_cores(groups):
    groups("memory.limit_in_bytes", f"{3 << 30}\n", version=1)
    groups("memory.usage_in_bytes", f"{1 << 30}\n", version=1)
    groups("cpu.cfs_quota_us", "150000\n", version=1)
    groups("cpu.cfs_period_us", "100000\n", version=1)
    assert machine.memory_limit() == 3 << 30
    assert machine.available_memory() == 2 << 30
    assert machine.cores() == 1.5


def test_a_group_without_a_limit_limits_nothing(groups):
    groups("memory.max", "max\n", version=2)
    groups("cpu.max", "max 100000\n", version=2)
    assert machine.memory_limit() is None
    assert machine.cores() >= 1


@pytest.mark.parametrize(
    ("cpuinfo", "native"),
    [
        ("model name\t: Old\nflags\t\t: fpu avx2 avx512f\n", False),
        ("model name\t: New\nflags\t\t: fpu avx2 avx512f avx512_bf16\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("", False),
    ],
)
def test_bfloat16_is_native_where_the_processor_says_so(monkeypatch, cpuinfo, native):
    monkeypatch.setattr(machine, "_cpuinfo", lambda: cpuinfo)
    assert machine.has_native_bfloat16() == native


def test_the_tightest_of_nested_groups_counts_by_what_is_left_in_it(tmp_path, monkeypatch):
    own, parent = tmp_path / "a" / "b", tmp_path / "a"
    own.mkdir(parents=True)
    (parent / "memory.max").write_text(f"{8 << 30}")
    (parent / "memory.current").write_text(f"{7 << 30}")
    (own / "memory.max").write_text(f"{10 << 30}")
    (own / "memory.current").write_text("0")
    monkeypatch.setattr(machine, "_groups", lambda controller: [own, parent])
    assert machine.available_memory() == 1 << 30
    assert machine.memory_limit() == 8 << 30
