"""`sweep doctor`, as someone meets it whose machine, packages, storage or study has a fault."""

import json
import platform
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.doctor import gpu, machine, outside, packages, storage, study
from sweep.doctor.check import Status
from tests.support.command import sweep

GIB = 2**30


def one(checks, name):
    [check] = [check for check in checks if check.name == name]
    return check


def check_machine(name, environment=Path(sys.prefix)):
    return one(machine.machine_checks(environment), name)


def test_a_sound_machine_has_no_fault():
    checks = [*machine.machine_checks(Path(sys.prefix)), *packages.version_checks()]
    assert [check for check in checks if check.status is Status.FAULT] == []
    assert len({check.name for check in checks}) == len(checks)


@pytest.mark.parametrize(
    ("flags", "status", "kernels"),
    [
        ({"avx2"}, Status.OK, "for AVX2; bfloat16 emulated"),
        ({"avx2", *machine.AVX512}, Status.OK, "for AVX-512; bfloat16 emulated"),
        ({"avx2", *machine.AVX512, "avx512_bf16"}, Status.OK, "for AVX-512 with bfloat16; bfloat16 native"),
        ({"sse4_2", "avx"}, Status.FAULT, "without AVX2"),
        (set(), Status.WARNING, "does not say"),
    ],
)
def test_a_processor_is_told_by_the_kernels_that_it_gets(monkeypatch, flags, status, kernels):
    monkeypatch.setattr(machine, "processor_flags", lambda: frozenset(flags))
    monkeypatch.setattr(machine, "has_native_bfloat16", lambda: "avx512_bf16" in flags)
    check = check_machine("processor")
    assert (check.status, kernels in check.found) == (status, True)


def test_a_system_library_that_is_absent_or_old_is_named(monkeypatch):
    assert check_machine("libraries").status is Status.OK
    monkeypatch.setitem(machine.LIBRARIES, "libnosuch.so.1", "apt install libnosuch1")
    check = check_machine("libraries")
    assert (check.status, check.found, check.remedy) == (
        Status.FAULT, "no libnosuch.so.1", "install it: apt install libnosuch1",
    )  # fmt: skip
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.17"))
    assert "glibc 2.17" in check_machine("libraries").found


@pytest.mark.parametrize(("version", "status"), [((3, 10), "fault"), ((3, 12), "ok"), ((3, 14), "warning")])
def test_a_python_outside_the_lock_is_told(monkeypatch, version, status):
    monkeypatch.setattr(machine, "sys", SimpleNamespace(version_info=(*version, 0)))
    assert check_machine("Python").status.value == status


def test_another_system_is_a_fault(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    names = {check.name: check.status for check in machine.machine_checks(Path(sys.prefix))}
    assert names["system"] is Status.FAULT
    assert "processor" not in names


def test_little_memory_few_cores_and_a_full_disk_are_told(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "available_memory", lambda: GIB)
    monkeypatch.setattr(machine, "memory_limit", lambda: 2 * GIB)
    monkeypatch.setattr(machine, "cores", lambda: 0.5)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: SimpleNamespace(free=GIB // 2, total=GIB))
    assert check_machine("memory").status is Status.WARNING
    assert "control group" in check_machine("memory").found
    assert check_machine("cores").status is Status.WARNING
    assert check_machine("disk").status is Status.WARNING
    assert check_machine("disk", tmp_path / "not-there-yet").status is Status.FAULT


def test_packages_that_are_absent_or_other_than_locked_are_named(tmp_path, monkeypatch):
    lock = tmp_path / "cpu.lock"
    monkeypatch.setattr(packages, "LOCK", lock)
    lock.write_text(
        "# a lock\nrich==0.0.1 ; python_full_version < '3.99'\nno-such-package==1.0\n"
        "for-another-python==1.0 ; python_full_version < '3.0'\n"
    )
    check = one(packages.version_checks(), "versions")
    assert check.status is Status.FAULT
    assert "1 of 2 locked packages are absent: no-such-package" in check.found
    lock.write_text("rich==0.0.1\n")
    check = one(packages.version_checks(), "versions")
    assert check.status is Status.WARNING
    assert "instead of 0.0.1" in check.found


@pytest.mark.parametrize(
    ("code", "found", "remedy"),
    [
        ("import signal; signal.raise_signal(signal.SIGILL)", "the process died (", "lacks an instruction"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'", "make setup"),
        ("import os; os._exit(3)", "exit code 3", "make setup"),
    ],
)
def test_a_package_that_crashes_when_imported_is_a_line(monkeypatch, code, found, remedy):
    monkeypatch.setattr(packages, "HEAVY", {"broken": code, "sound": "import json"})
    broken, sound = packages.import_checks()
    assert (broken.status, sound.status) == (Status.FAULT, Status.OK)
    assert found in broken.found
    assert remedy in broken.remedy


def test_torchs_build_is_read_from_its_files(tmp_path, monkeypatch):
    assert packages.torch_cuda_build() is None
    (tmp_path / "version.py").write_text("from typing import Optional\ncuda: Optional[str] = '13.0'\n")
    fake = SimpleNamespace(locate_file=lambda name: tmp_path / "version.py")
    monkeypatch.setattr(packages, "distribution", lambda name: fake)
    assert packages.torch_cuda_build() == "13.0"


def test_a_cuda_build_without_a_gpu_and_a_gpu_without_a_cuda_build_are_told(monkeypatch):
    monkeypatch.setattr(gpu, "torch_cuda_build", lambda: "13.0")
    monkeypatch.setattr(gpu, "_driver", lambda: None)
    [check] = gpu.gpu_checks()
    assert (check.status, "CUDA 13.0" in check.found) == (Status.WARNING, True)
    monkeypatch.setattr(gpu, "_driver", lambda: "580.1")
    monkeypatch.setattr(gpu, "torch_cuda_build", lambda: None)
    [check] = gpu.gpu_checks()
    assert (check.status, "leaves it alone" in check.found) == (Status.WARNING, True)
    monkeypatch.setattr(gpu, "torch_cuda_build", lambda: "13.0")
    [check] = gpu.gpu_checks()  # the torch here has no CUDA, as one has whose driver is too old
    assert (check.status, "cannot use it" in check.found) == (Status.FAULT, True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    [check] = gpu.gpu_checks()
    assert check.status is Status.WARNING
    assert "CUDA_VISIBLE_DEVICES='-1' hides it: trials run on the processor" in check.found


def test_storages_are_looked_at_and_not_made(tmp_path, monkeypatch):
    url = f"sqlite:///{tmp_path}/new.db"
    [check] = storage.storage_checks(url)
    assert (check.status, "can be made" in check.found) == (Status.OK, True)
    assert not (tmp_path / "new.db").exists()
    (tmp_path / "broken.db").write_text("not a database, by any means" * 100)
    [check] = storage.storage_checks(f"sqlite:///{tmp_path}/broken.db")
    assert check.status is Status.FAULT
    [check] = storage.storage_checks(f"sqlite:///{tmp_path}/no/such/folder/x.db")
    assert check.status is Status.FAULT
    monkeypatch.setattr(storage, "file_system", lambda folder: "nfs4")
    [check] = storage.storage_checks(url)
    assert (check.status, "nfs4" in check.found) == (Status.FAULT, True)


def test_the_file_system_of_a_folder_is_that_of_its_nearest_mount(tmp_path):
    assert storage.file_system(Path("/proc/self")) == "proc"
    assert storage.file_system(tmp_path) != "proc"


def test_a_hub_out_of_reach_and_a_browser_that_is_none_are_told(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "none"))
    hub, browser = outside.outside_checks()
    assert (hub.status, browser.status) == (Status.WARNING, Status.WARNING)
    assert "local folders" in hub.remedy


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("file:///etc/hostname", "HF_ENDPOINT=file:///etc/hostname; allowed: an address with http:// or https://"),
        ("http://me:secret@127.0.0.1:9", "http://me:***@127.0.0.1:9 does not answer"),
        ("hub", "HF_ENDPOINT=hub; allowed: an address with http:// or https://"),
    ],
)
def test_a_hub_that_is_no_http_address_is_not_opened_and_passwords_are_hidden(monkeypatch, address, found):
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    hub, _ = outside.outside_checks()
    assert (hub.status, hub.found) == (Status.WARNING, found)


def test_a_study_is_looked_at_with_its_model_data_and_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {check.status for check in study.study_checks("tiny", [])} == {Status.OK}
    [check] = study.study_checks("tinny", [])
    assert check.status is Status.FAULT
    Path("mine.py").write_text("import sys\nsys.exit('no')\ndef reward(completions, **_): return [0.0]\n")
    checks = list(study.study_checks("tiny", ["task.reward=['mine:reward']", "model.name=./nowhere"]))
    faults = {check.name: check.found for check in checks if check.status is Status.FAULT}
    assert "no folder './nowhere'" in faults["model"]
    assert "import mine:reward" in faults


def test_the_command_exits_with_2_where_there_is_a_fault(tmp_path):
    done = sweep("doctor", "--quick", cwd=tmp_path)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert "nothing that would keep a study from running here" in done.stdout
    listed = sweep("doctor", "--quick", "--json", cwd=tmp_path)
    assert {check["status"] for check in json.loads(listed.stdout)} <= {"ok", "warning"}


def test_the_quick_look_at_a_study_says_what_is_wrong_with_it_and_imports_nothing_of_the_users(tmp_path):
    (tmp_path / "mine.py").write_text("open('imported', 'w')\ndef reward(completions, **_): return [0.0]\n")
    own = ["--set", "task.reward=['mine:reward']"]
    done = sweep("doctor", "--quick", "tiny", *own, cwd=tmp_path)
    assert (done.returncode, "nothing that would keep a study" in done.stdout) == (0, True)
    done = sweep("doctor", "--quick", "tiny", *own, "--set", "model.name=./nowhere", cwd=tmp_path)
    assert (done.returncode, "fault   model: model.name: no folder './nowhere'" in done.stdout) == (2, True)
    assert sweep("doctor", "--quick", "tinny", cwd=tmp_path).returncode == 2
    assert not (tmp_path / "imported").exists()


@pytest.mark.long
def test_the_whole_command_looks_at_everything_and_counts(tmp_path):
    done = sweep("doctor", "no-such-study", "--storage", f"sqlite:///{tmp_path}/none/x.db", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "fault   study: no study 'no-such-study'" in done.stdout
    assert "ok      import TRL" in done.stdout
    assert "2 faults" in done.stdout.splitlines()[-1]


def test_a_database_that_is_only_looked_at_stays_as_it_is(tmp_path):
    import sqlite3

    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = other.read_bytes()
    [check] = storage.storage_checks(f"sqlite:///{other}")
    assert (check.status, "would make its tables" in check.found) == (Status.OK, True)
    assert other.read_bytes() == before
    [check] = storage.storage_checks("sqlite:///:memory:")
    assert check.status is Status.FAULT


def test_a_storage_of_ours_is_told_with_its_studies_and_its_journal(tmp_path):
    import optuna

    url = f"sqlite:///{tmp_path}/plain.db"
    optuna.create_study(storage=url, study_name="x")
    [check] = storage.storage_checks(url)
    assert (check.status, "1 study, journal mode delete" in check.found) == (Status.WARNING, True)
