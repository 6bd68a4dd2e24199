"""What `model.dtype = "auto"` comes to, and that a study keeps it."""

import pytest

from sweep.errors import StudyMismatchError
from sweep.preflight import number_format
from sweep.preflight.devices import named_device
from sweep.preflight.number_format import settle_dtype, with_dtype
from sweep.search.schedule import make_sampler
from sweep.storage.database import create_or_match_study, open_storage, stored_study
from sweep.study.reading import load_study

AUTO = ["model.dtype=auto"]


def dtype(device=None, *overrides, native=True, monkeypatch):
    monkeypatch.setattr(number_format, "has_native_bfloat16", lambda: native)
    config = load_study("tiny", [*AUTO, *overrides])
    return with_dtype(config, None if device is None else named_device(device)).model.dtype


def test_auto_is_what_the_device_computes_by_itself(monkeypatch):
    assert dtype(native=True, monkeypatch=monkeypatch) == "bfloat16"
    assert dtype(native=False, monkeypatch=monkeypatch) == "float32"
    assert dtype("L4", "learner.name=trl", monkeypatch=monkeypatch) == "bfloat16"
    assert dtype("T4", "learner.name=trl", monkeypatch=monkeypatch) == "float16"
    assert dtype("T4", "learner.name=packed", monkeypatch=monkeypatch) == "float32"
    assert dtype("T4", "model.dtype=float32", monkeypatch=monkeypatch) == "float32"


def test_auto_is_the_default():
    assert load_study("llama32_1b_gsm8k").model.dtype == "auto"
    with pytest.raises(ValueError, match="has not been resolved"):
        _ = load_study("llama32_1b_gsm8k").model.number_format


@pytest.fixture
def stored(tmp_path):
    """Stores a study that began in a number format."""

    def store(began):
        storage = open_storage(f"sqlite:///{tmp_path}/{began}.db", create=True)
        config = load_study("tiny", [f"model.dtype={began}"])
        assert stored_study(storage, "tiny") is None
        create_or_match_study(storage, config, make_sampler(design_size=1, seed=0))
        return stored_study(storage, "tiny")

    return store


@pytest.mark.parametrize("began", ["float32", "bfloat16"])
@pytest.mark.parametrize("native", [True, False])
def test_a_study_keeps_what_it_began_with_on_another_processor(stored, monkeypatch, tmp_path, began, native):
    monkeypatch.setattr(number_format, "has_native_bfloat16", lambda: native)
    config = load_study("tiny", AUTO)
    study = stored(began)
    settled = settle_dtype(config, study, None)
    assert settled.model.dtype == began
    assert settled.model.max_lora_rank == config.model.max_lora_rank
    assert settled.worker_settings(tmp_path).model.number_format == began


def test_a_study_that_began_in_what_a_device_lacks_is_refused(stored):
    config = load_study("tiny", AUTO)
    with pytest.raises(StudyMismatchError, match=r"was begun in bfloat16, which this GPU \(T4\) cannot compute in"):
        settle_dtype(config, stored("bfloat16"), named_device("T4"))
    with pytest.raises(StudyMismatchError, match="was begun in float16, which this processor"):
        settle_dtype(config, stored("float16"), None)


def test_a_number_format_that_was_named_is_taken_as_it_is(stored):
    assert settle_dtype(load_study("tiny", ["model.dtype=bfloat16"]), stored("float32"), None).model.dtype == "bfloat16"
