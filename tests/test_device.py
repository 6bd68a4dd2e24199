"""A study that was planned for a GPU is not trained on the processor without a word."""

import pytest
import torch

from objectives import machine
from objectives.errors import DeviceError
from objectives.settings.sections import ModelSettings
from objectives.trial.device import has_gpu

CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version: 12\n"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build  (dvs)  Wed Aug 27\n"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Writes what the kernel says of a driver; without a call there is none."""
    file = tmp_path / "version"
    monkeypatch.setattr(machine, "NVIDIA_DRIVER", file)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return file.write_text


def settings(device="any"):
    return ModelSettings(name="shipped/tiny", max_lora_rank=8, policy="peft", device=device)


@pytest.mark.parametrize(("text", "version"), [(CLOSED, "535.104.05"), (OPEN, "580.82.07"), ("NVRM version: ?", None)])
def test_the_drivers_version_is_the_loaded_modules(driver, text, version):
    assert machine.nvidia_driver() is None
    driver(text)
    assert machine.nvidia_driver() == version


def test_a_driver_that_torch_cannot_use_is_named_with_torchs_cuda(driver, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    driver(CLOSED)
    for device in ("any", "gpu"):
        with pytest.raises(DeviceError, match=r"needs a driver for CUDA 13\.0, and the NVIDIA driver here is 535\.104"):
            has_gpu(settings(device))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert not has_gpu(settings())


def test_a_study_that_needs_a_gpu_is_refused_without_one(driver, monkeypatch):
    with pytest.raises(DeviceError, match="is a build for processors, and the NVIDIA driver here is not loaded"):
        has_gpu(settings("gpu"))


def test_a_processor_will_do_where_no_gpu_could_be_used(driver, monkeypatch):
    assert not has_gpu(settings())
    driver(OPEN)
    assert not has_gpu(settings()), "torch's build for processors was chosen"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert has_gpu(settings("gpu"))


def test_what_unsloth_says_of_such_a_machine_is_not_the_last_word(driver, monkeypatch, unsloth_policy):
    import builtins

    imported = builtins.__import__

    def refuse(name, *given):
        if name == "objectives.policies.unsloth":
            raise NotImplementedError("Unsloth cannot find any torch accelerator? You need a GPU.")
        return imported(name, *given)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    driver(CLOSED)
    with pytest.raises(DeviceError, match="sees no GPU that it can use"):
        has_gpu(settings().model_copy(update={"policy": "unsloth"}))
