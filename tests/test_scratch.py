"""Where temporary files go, on machines with little shared memory or with a folder that forbids programs."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from objectives.engines.adapter_files import largest_adapter_bytes
from objectives.trial.places import adapter_place, compiled_folder
from sweep.errors import StorageError
from sweep.running import scratch
from sweep.study.reading import load_study
from tests.support.command import SMALL, SWEEP
from tests.support.packed import peft_model, random_model


@pytest.fixture
def settings(tmp_path):
    return load_study("tiny").worker_settings(tmp_path)


def usage(free):
    return lambda folder: SimpleNamespace(free=free.get(str(folder), 2**40))


def test_adapters_lie_in_memory_where_all_fit_and_on_the_disk_elsewhere(settings, tmp_path, monkeypatch):
    model = random_model()
    size = largest_adapter_bytes(model, 64, settings.model.target_modules)
    disk, memory = tmp_path / "disk", tmp_path / "memory"
    needed = (settings.learner.slots + 2) * size
    monkeypatch.setattr(shutil, "disk_usage", usage({str(memory): needed}))
    assert adapter_place((disk, memory), model, settings) == memory
    monkeypatch.setattr(shutil, "disk_usage", usage({str(memory): needed - 1}))
    assert adapter_place((disk, memory), model, settings) == disk
    assert adapter_place((disk,), model, settings) == disk


def test_an_adapters_size_is_that_of_its_weights(tmp_path, settings):
    from objectives.lora import LoraSpec

    base = random_model()
    adapted = peft_model(base, LoraSpec(r=8, alpha=16))
    weights = sum(4 * p.numel() for name, p in adapted.named_parameters() if "lora_" in name)
    assert largest_adapter_bytes(base, 8, settings.model.target_modules) == weights


def test_temporary_files_avoid_folders_that_are_full_or_forbid_programs(tmp_path, monkeypatch):
    usual, near = tmp_path / "usual", tmp_path / "near"
    usual.mkdir()
    near.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(usual))
    assert scratch.disk_folder(near) == usual
    monkeypatch.setattr(shutil, "disk_usage", usage({str(usual): 1000}))
    assert scratch.disk_folder(near) == near
    monkeypatch.setattr(scratch, "can_run_programs", lambda folder: folder != near)
    with pytest.raises(StorageError, match="set TMPDIR"):
        scratch.disk_folder(near)


def test_compiled_code_stays_with_the_study_unless_its_folder_forbids_programs(tmp_path, monkeypatch):
    assert compiled_folder(tmp_path / "logs") == tmp_path / "logs" / "compiled"
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_flag=os.ST_NOEXEC))
    assert compiled_folder(tmp_path / "logs") != tmp_path / "logs" / "compiled"


def can_mount():
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"]
    return shutil.which("unshare") and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.long
@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a file system of its own")
@pytest.mark.parametrize("size", ["64m", "1m"])
def test_a_study_finishes_where_shared_memory_is_small_and_forbids_programs(size, tmp_path):
    run = [SWEEP, "run", "tiny", "--trials", "1", "--set", "search.points_per_rank=1", "--set", "space.r=[64]", *SMALL]
    mount = f"mount -t tmpfs -o size={size},noexec tmpfs /dev/shm"
    shell = ["unshare", "-m", "sh", "-c", f'{mount} && "$@" && ls -A /dev/shm', "sh", *run]
    done = subprocess.run(shell, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "held-out reward" in done.stdout
    assert "rank-sweep-" not in done.stdout, "a temporary folder was left behind"
    assert not (tmp_path / "unsloth_compiled_cache").exists()


def test_folders_of_the_dead_are_removed_and_no_others(tmp_path, monkeypatch):
    """A process that is killed leaves its folder; the next one that makes a folder there takes it away."""
    monkeypatch.setattr(scratch, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, signal, tempfile; from pathlib import Path; from sweep.running import scratch\n"
        f"tempfile.tempdir = {str(tmp_path)!r}; scratch.SHARED_MEMORY = Path({str(tmp_path)!r})\n"
        f"made = scratch.Scratch(near=Path({str(tmp_path)!r})); print(*made.folders, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    left = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout
    left = [Path(folder) for folder in left.split()]
    assert [folder.is_dir() for folder in left] == [True, True]
    (tmp_path / "rank-sweep-of-another-kind").mkdir()
    mine = scratch.Scratch(near=tmp_path)
    other = scratch.Scratch(near=tmp_path)
    assert not any(folder.exists() for folder in left)
    assert all(folder.is_dir() for folder in (*mine.folders, *other.folders))
    mine.remove()
    other.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["rank-sweep-of-another-kind"]


@pytest.mark.parametrize("killed_before", ["flock", "rename"])
def test_what_was_killed_while_it_made_its_folder_leaves_none_for_good(tmp_path, monkeypatch, killed_before):
    monkeypatch.setattr(scratch, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    places = {"flock": "tempfile.mkdtemp", "rename": "scratch.fcntl.flock"}
    code = (
        "import os, signal, tempfile; from pathlib import Path; from sweep.running import scratch\n"
        f"tempfile.tempdir = {str(tmp_path)!r}; do = {places[killed_before]}\n"
        "def done_and_killed(*given, **named): do(*given, **named); os.kill(os.getpid(), signal.SIGKILL)\n"
        f"{places[killed_before]} = done_and_killed\n"
        f"scratch.Scratch(near=Path({str(tmp_path)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    [left] = tmp_path.iterdir()
    assert left.name.startswith(".rank-sweep-") and (left / "lock").exists() == (killed_before == "rename")
    scratch.Scratch(near=tmp_path).remove()
    assert left.is_dir(), "somebody may be about to give it its name"
    os.utime(left, (1, 1))
    scratch.Scratch(near=tmp_path).remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_held_stays_however_old_and_unfinished_it_is(tmp_path):
    held = tmp_path / ".rank-sweep-held"
    held.mkdir()
    with (held / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.utime(held, (1, 1))
        scratch.remove_abandoned(tmp_path)
        assert held.is_dir()
