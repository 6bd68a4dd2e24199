"""Storages and disks that fill up, vanish, are locked or may not be written."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import time
from pathlib import Path

from tests.faults.study import FaultStudy, References
from tests.support.command import SWEEP


def deleted_storage(folder: Path, references: References) -> str:
    """The SQLite file is deleted while the study runs."""
    study = FaultStudy(folder, slots=1)
    running = study.start()
    running.wait_for("step 60/")
    (folder / "faults.db").unlink()
    told = study.ended(running).strip().splitlines()[-1]
    assert running.process.returncode == 4, told
    assert "was deleted or replaced while the study ran" in told
    for left in folder.glob("faults.db-*"):
        left.unlink()
    study.finish()
    study.check(references.of(study))
    return "exit code 4, and it is said; the same command begins anew"


def truncated_storage(folder: Path, references: References) -> str:
    """The SQLite file is cut to half its size while the study runs."""
    study = FaultStudy(folder, slots=1)
    running = study.start()
    running.wait_for("step 60/")
    with (folder / "faults.db").open("r+b") as file:
        file.truncate((folder / "faults.db").stat().st_size // 2)
    for log in folder.glob("faults.db-*"):
        log.unlink()
    output = study.ended(running)
    code = running.process.returncode
    # SQLite's open files may hold all of it still, or not: done, or the storage's exit code and one line that says so.
    assert code in (0, 4), output[-1000:]
    if code == 4:
        told = output.strip().splitlines()[-1]
        assert "the storage failed" in told or "faults.db" in told, told
        for left in folder.glob("faults.db*"):
            left.unlink()
        study.finish()
    study.check(references.of(study))
    return (
        "SQLite had not lost anything" if code == 0 else "exit code 4; without the file, the same command begins anew"
    )


def locked_storage(folder: Path, references: References) -> str:
    """Another program holds the SQLite file's write lock for ten seconds."""
    study = FaultStudy(folder, slots=1)
    running = study.start()
    running.wait_for("step 60/")
    with sqlite3.connect(folder / "faults.db", isolation_level=None) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(10)
        connection.execute("ROLLBACK")
    connection.close()
    study.ended(running)
    assert running.process.returncode == 0
    study.check(references.of(study))
    return "it waited, and went on"


def full_disk(folder: Path, references: References) -> str:
    """Storage, logs and checkpoints lie on a disk of 1 MB, which is full soon; then it grows."""
    study = FaultStudy(folder / "small", slots=1, more_environment={"TMPDIR": str(folder)})
    prefix = _in_namespace(f"mount -t tmpfs -o size=1m tmpfs {study.folder}", study)
    script = " ".join(
        [
            _command(study), "; echo code $?;", f"mount -o remount,size=64m {study.folder};", _command(study),
            "; echo code $?;", f"cp -r {study.folder}/. {folder}/after",
        ]
    )  # fmt: skip
    (folder / "after").mkdir()
    done = subprocess.run([*prefix, script], capture_output=True, text=True, check=False, timeout=600, cwd=folder)
    output = done.stdout + done.stderr
    after = FaultStudy(folder / "after", slots=1, mark=study.mark, outputs=[output])
    codes = [line.split()[1] for line in output.splitlines() if line.startswith("code ")]
    assert codes == ["4", "0"], output[-1500:]
    after.check(references.of(after))
    return "exit code 4 where it is full, 0 once there is room; nothing is lost"


def full_shared_memory(folder: Path, references: References) -> str:
    """Shared memory has 64 kB: adapters are handed over on the disk."""
    study = FaultStudy(folder, slots=1)
    prefix = _in_namespace("mount -t tmpfs -o size=64k tmpfs /dev/shm", study)
    done = subprocess.run(
        [*prefix, _command(study)], capture_output=True, text=True, check=False, timeout=600, cwd=folder
    )
    study.outputs.append(done.stdout + done.stderr)
    assert done.returncode == 0, study.outputs[-1][-1500:]
    study.check(references.of(study))
    return "adapters go over the disk"


def read_only_folder(folder: Path, references: References) -> str:
    """The folder of the storage may not be written."""
    study = FaultStudy(folder, slots=1)
    study.finish()
    prefix = _in_namespace(f"mount --bind {folder} {folder}; mount -o remount,ro,bind {folder}", study)
    done = subprocess.run([*prefix, _command(study)], capture_output=True, text=True, check=False, timeout=120)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 4, done.stderr
    assert len(lines) == 1, lines
    study.check(references.of(study))
    return f"exit code 4: {lines[0].replace(str(folder), 'FOLDER')[:100]}"


def clock_set_forward(folder: Path, references: References) -> str:
    """The time of day jumps a day ahead after twenty seconds, in every process of the study."""
    study = FaultStudy(folder, slots=1)
    (folder / "clock").mkdir()
    (folder / "clock" / "sitecustomize.py").write_text(
        "import time\n_time, _began = time.time, time.monotonic()\n"
        "time.time = lambda: _time() + (86400 if time.monotonic() - _began > 20 else 0)\n"
    )
    path = os.pathsep.join([str(folder / "clock"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    study.more_environment = {"PYTHONPATH": path}
    study.finish()
    study.check(references.of(study))
    return "nothing goes by the time of day"


def _command(study: FaultStudy) -> str:
    return shlex.join([SWEEP, *study.arguments("run")])


def _in_namespace(mounts: str, study: FaultStudy) -> list[str]:
    """What runs a shell script with mounts of its own."""
    environment = " ".join(
        f"{name}={shlex.quote(study.environment[name])}" for name in ("FAULT_MARK", "TMPDIR", "SWEEP_STORAGE")
    )
    return ["unshare", "-m", "sh", "-c", f'{mounts}; export {environment}; eval "$0"']
