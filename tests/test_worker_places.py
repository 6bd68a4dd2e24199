"""Which workers a machine has, on which of its GPUs or cores, and where CUDA_VISIBLE_DEVICES leaves none."""

import os

import pytest

from sweep.errors import StudyFileError
from sweep.preflight import checks, devices, placement
from sweep.preflight import worker_places as module
from sweep.preflight.checks import check_device
from sweep.preflight.devices import VISIBLE, planned_device
from sweep.preflight.worker_places import THREADS, planned_workers, worker_places
from sweep.study.reading import load_study


@pytest.fixture
def config():
    return load_study("tiny", [])


@pytest.fixture
def gpus(monkeypatch):
    """A machine with this many GPUs, by number or by name."""

    def machine(count, mask=None):
        monkeypatch.setattr(placement, "version", lambda package: "2.13.0")
        for asked in (placement, checks):
            monkeypatch.setattr(asked, "shows_gpu", lambda: count > 0)
        listed = [f"NVIDIA H100 {k}, 81559" for k in range(count)]
        monkeypatch.setattr(devices, "_list_gpus", lambda fields, timeout_s: listed)
        monkeypatch.delenv(VISIBLE, raising=False)
        if mask is not None:
            monkeypatch.setenv(VISIBLE, mask)

    return machine


@pytest.mark.parametrize(
    ("count", "mask", "places"),
    [
        (1, None, ["0"]),
        (4, None, ["0", "1", "2", "3"]),
        (4, "2,3", ["2", "3"]),
        (2, "GPU-a, GPU-b", ["GPU-a", "GPU-b"]),
        (4, "0,-1,1", ["0"]),
        (4, "3,4,1", ["3"]),
        (4, "1,,2", ["1"]),
        (2, "GPU-a,none,GPU-b", ["GPU-a"]),
    ],
)
def test_each_gpu_has_a_worker_of_its_own_by_default(gpus, config, count, mask, places):
    gpus(count, mask)
    assert [place[VISIBLE] for place in worker_places(config)] == places


@pytest.mark.parametrize("mask", ["", "-1", " ", "-1,0", "4", "none", "NoDevFiles", "0,1,0"])
def test_a_study_whose_gpus_are_all_hidden_is_planned_and_run_on_the_processor(gpus, config, mask):
    gpus(2)
    assert planned_device(None).name == "NVIDIA H100 0"
    assert planned_workers(config, planned_device(None)) == 2
    gpus(2, mask)
    assert (planned_device(None), placement.device_here()) == (None, None)
    assert not placement.place_here(config).on_gpu
    assert (planned_workers(config, planned_device(None)), len(worker_places(config))) == (1, 1)
    with pytest.raises(StudyFileError, match=f"needs an NVIDIA GPU .* and CUDA_VISIBLE_DEVICES='{mask}' hides"):
        check_device(load_study("tiny", ["model.device=gpu"]))


def test_without_nvidia_smi_a_mask_is_taken_at_its_word(gpus, monkeypatch):
    gpus(1, "2,3")
    monkeypatch.setattr(devices, "_list_gpus", lambda fields, timeout_s: [])
    assert devices.visible_gpus() == ("2", "3")


def test_more_workers_than_gpus_or_cores_are_refused_in_one_line(gpus, config, monkeypatch):
    gpus(2)
    asked = load_study("tiny", ["run.workers=3"])
    with pytest.raises(StudyFileError, match=r"run.workers=3; this machine has 2 GPUs; allowed: 'auto', 1 to 2"):
        worker_places(asked)
    gpus(0)
    monkeypatch.setattr(module, "cores", lambda: 2.0)
    with pytest.raises(StudyFileError, match=r"this machine has 2 processor cores; allowed: 'auto', 1 to 2"):
        worker_places(asked)


def test_workers_on_a_processor_share_its_cores(gpus, monkeypatch):
    gpus(0)
    monkeypatch.setattr(module, "cores", lambda: 8.0)
    monkeypatch.delenv(THREADS, raising=False)
    asked = load_study("tiny", ["run.workers=2"])
    assert worker_places(asked) == ({THREADS: "4"}, {THREADS: "4"})
    assert worker_places(load_study("tiny", [])) == ({},)
    monkeypatch.setitem(os.environ, THREADS, "1")
    assert worker_places(asked) == ({}, {})
