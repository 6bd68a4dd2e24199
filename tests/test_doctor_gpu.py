"""`sweep doctor` on a machine with a GPU: what nvidia-smi and torch say is said by stand-ins for both."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from sweep.doctor import caches, gpu, gpu_study, study
from sweep.doctor.check import Status
from sweep.preflight import placement
from sweep.preflight.devices import VISIBLE
from sweep.study.reading import load_study

GIB = 2**30
SOUND = {"available": True, "capability": [8, 9], "architectures": ["sm_80", "sm_86", "sm_90"]}


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with two GPUs, an nvidia-smi on its PATH, and a torch that answers as told."""

    def machine(
        *, name="NVIDIA L4", driver="580.65.06", free=22700, torch=SOUND, bitsandbytes="libbitsandbytes_cuda130.so"
    ):
        program = tmp_path / "nvidia-smi"
        program.write_text(
            "#!/bin/sh\ncase $1 in\n"
            f"*name,memory.total*) echo '{name}, 23034, GPU-a'; echo 'NVIDIA H100 80GB HBM3, 81559, GPU-b';;\n"
            f"*driver_version*) echo '{driver}, GPU-a'; echo '{driver}, GPU-b';;\n"
            f"*memory.free*) echo '{free}, 23034, GPU-a'; echo '81000, 81559, GPU-b';;\n"
            "*index*) echo '0, GPU-a'; echo '1, GPU-b';;\nesac\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        monkeypatch.delenv(VISIBLE, raising=False)
        monkeypatch.setattr(gpu, "torch_cuda_build", lambda: "13.0")
        monkeypatch.setattr(gpu, "ASK_TORCH", f"print({json.dumps(torch)!r})")
        monkeypatch.setattr(gpu, "ASK_BITSANDBYTES", f"print({bitsandbytes!r})")
        for asked in (placement, gpu):
            monkeypatch.setattr(asked, "shows_gpu", lambda: True)
        monkeypatch.setattr(placement, "version", lambda package: "2.13.0")
        for variable in ("FLASHINFER_WORKSPACE_BASE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "VLLM_CACHE_ROOT"):
            monkeypatch.setenv(variable, str(tmp_path / variable))
        return {check.name: check for check in gpu.gpu_checks()}

    return machine


def test_a_sound_gpu_is_looked_at_from_all_sides(machine):
    checks = machine()
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(
        ("GPU", "compute capability", "GPU memory", "bitsandbytes", "kernel caches"), Status.OK
    )
    assert checks["GPU"].found == "NVIDIA L4, 22.5 GiB, driver 580.65.06, torch for CUDA 13.0"
    assert checks["GPU memory"].found == "22.2 of 22.5 GiB free"
    assert "inductor in " in checks["kernel caches"].found


def test_the_gpu_that_is_visible_is_the_one_that_is_looked_at(machine, monkeypatch):
    machine()
    monkeypatch.setenv(VISIBLE, "1")
    checks = {check.name: check for check in gpu.gpu_checks()}
    assert checks["GPU"].found.startswith("NVIDIA H100 80GB HBM3, 79.6 GiB")
    assert checks["GPU memory"].found == "79.1 of 79.6 GiB free"


def test_a_driver_that_is_too_old_for_torchs_cuda_is_named_with_the_oldest_that_will_do(machine):
    [check] = machine(driver="550.54.15").values()
    assert (check.status, "CUDA 13.0, that torch is built for, needs 580 or newer" in check.found) == (
        Status.FAULT,
        True,
    )


def test_a_torch_that_cannot_use_the_gpu_or_does_not_come_to_an_answer_is_a_fault(machine, monkeypatch):
    [check] = machine(torch={"available": False, "capability": None, "architectures": []}).values()
    assert (check.status, "cannot use it" in check.found) == (Status.FAULT, True)
    monkeypatch.setattr(gpu, "ASK_TORCH", "raise SystemExit('libcudart.so.13: cannot open shared object file')")
    [check] = gpu.gpu_checks()
    assert check.found.endswith("cannot use it: libcudart.so.13: cannot open shared object file")


@pytest.mark.parametrize(
    ("capability", "architectures", "status"),
    [
        ((8, 9), ["sm_80", "sm_90"], Status.OK),
        ((7, 5), ["sm_75", "sm_80"], Status.OK),
        ((7, 0), ["sm_75", "sm_80"], Status.FAULT),
        ((12, 0), ["sm_80", "sm_90"], Status.FAULT),
        ((12, 0), ["sm_90", "compute_90"], Status.OK),
        ((12, 0), ["sm_100", "sm_120"], Status.OK),
    ],
)
def test_a_card_that_torch_has_no_kernels_for_is_a_fault(machine, capability, architectures, status):
    torch = SOUND | {"capability": capability, "architectures": architectures}
    assert machine(torch=torch)["compute capability"].status is status


def test_a_card_without_bfloat16_is_told_so(machine):
    check = machine(name="Tesla T4", torch=SOUND | {"capability": [7, 5], "architectures": ["sm_75"]})[
        "compute capability"
    ]
    assert "no bfloat16" in check.found


def test_memory_that_others_hold_is_warned_of(machine):
    check = machine(free=9000)["GPU memory"]
    assert (check.status, check.found) == (Status.WARNING, "8.8 of 22.5 GiB free")


@pytest.mark.parametrize("said", ["libbitsandbytes_cpu.so", "RuntimeError: Method not available in CPU-only version"])
def test_a_bitsandbytes_without_its_cuda_library_is_a_fault(machine, said):
    check = machine(bitsandbytes=said)["bitsandbytes"]
    assert (check.status, check.found) == (Status.FAULT, said)


def test_caches_that_cannot_be_written_run_from_or_filled_are_named_with_their_variable(machine, monkeypatch):
    machine()
    monkeypatch.setattr(caches.shutil, "disk_usage", lambda folder: SimpleNamespace(free=GIB))
    check = caches.cache_check(Path("logs"))
    assert (check.status, "FLASHINFER_WORKSPACE_BASE" in check.remedy) == (Status.WARNING, True)
    monkeypatch.setattr(caches, "can_run_programs", lambda folder: False)
    check = caches.cache_check(Path("logs"))
    assert (check.status, "FlashInfer's, " in check.found, "noexec" in check.found) == (Status.FAULT, True, True)
    monkeypatch.setattr(caches.os, "access", lambda folder, mode: False)
    assert "cannot be written" in caches.cache_check(Path("logs")).found


def test_caches_are_where_the_packages_put_them(monkeypatch, tmp_path):
    for variable in ("FLASHINFER_WORKSPACE_BASE", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "VLLM_CACHE_ROOT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    folders = {package: folder for package, (_, folder) in caches.cache_folders(tmp_path / "logs").items()}
    assert folders == {
        "FlashInfer": tmp_path / ".cache" / "flashinfer",
        "inductor": tmp_path / "logs" / "compiled" / "inductor",
        "Triton": tmp_path / ".triton" / "cache",
        "vLLM": Path("/elsewhere/vllm"),
    }


@pytest.mark.parametrize(
    ("free", "status", "told"),
    [
        (22700, Status.OK, "that engine and training take"),
        (13000, Status.WARNING, "free of the"),
        (6000, Status.FAULT, "the engine's share is 11.2 GiB"),
    ],
)
def test_free_memory_is_held_against_the_study(machine, free, status, told):
    machine(free=free)
    checks = {check.name: check for check in gpu_study.gpu_study_checks(load_study("llama32_1b_gsm8k"))}
    assert (checks["room on the GPU"].status, told in checks["room on the GPU"].found) == (status, True)


def test_a_study_that_does_not_fit_and_shared_memory_that_is_small_are_warned_of(machine, monkeypatch):
    machine()
    monkeypatch.setattr(gpu_study.shutil, "disk_usage", lambda folder: SimpleNamespace(free=64 * 2**20))
    config = load_study("llama32_1b_gsm8k", ["learner.micro_batch_size=64", "model.gradient_checkpointing=off"])
    room, adapters = gpu_study.gpu_study_checks(config)
    assert (room.status, adapters.status) == (Status.WARNING, Status.WARNING)
    assert "training lacks room" in room.remedy
    assert adapters.found == "64.0 MiB free; adapters want 516.0 MiB of it, and go through the disk"


def test_a_study_is_held_against_the_gpu_with_everything_else(machine, monkeypatch, tmp_path):
    machine()
    monkeypatch.setattr("sweep.preflight.checks.shows_gpu", lambda: True)
    names = [check.name for check in study.study_checks("llama32_1b_gsm8k", [], quick=True)]
    assert names[-2:] == ["room on the GPU", "adapters in shared memory"]


def test_without_a_gpu_nothing_is_held_against_one(monkeypatch):
    monkeypatch.setattr(placement, "shows_gpu", lambda: False)
    assert list(gpu_study.gpu_study_checks(load_study("llama32_1b_gsm8k"))) == []
