"""What is checked of a model from its config.json alone."""

import json
import re

import pytest

from objectives.memory.config_files import BROUGHT
from objectives.settings.sections import SHIPPED_MODELS
from sweep.errors import StudyFileError
from sweep.preflight.checks import check_study
from sweep.preflight.model import check_weights
from sweep.study.reading import load_study

TINY = json.loads((SHIPPED_MODELS / "tiny" / "config.json").read_text())


@pytest.fixture
def check(tmp_path):
    """Checks the shipped study on a model whose config.json is changed so, with so long sequences."""

    def check(length, **changes):
        (tmp_path / "config.json").write_text(json.dumps(TINY | changes))
        check_study(load_study("tiny", [f"model.name={tmp_path}", f"model.max_seq_length={length}"]))

    return check


def test_sequences_longer_than_a_models_positions_are_refused(check):
    check(128)
    with pytest.raises(StudyFileError, match=r"max_seq_length=129 exceeds the 128 positions .*; allowed: up to 128"):
        check(129)


@pytest.mark.parametrize(
    "scaled",
    [
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}},
        {"max_position_embeddings": None},
    ],
)
def test_positions_that_are_scaled_or_unknown_are_left_to_the_engine(check, scaled):
    check(512, **scaled)


def test_a_config_that_cannot_be_read_is_left_to_what_loads_the_model(tmp_path, monkeypatch):
    broken = tmp_path / "config.json"
    broken.write_text("{")
    monkeypatch.setattr("sweep.preflight.model.find_config", lambda _: broken)
    check_study(load_study("tiny", ["model.max_seq_length=512"]))


@pytest.mark.parametrize(
    "weights",
    ["model.safetensors", "model-00001-of-00002.safetensors", "pytorch_model.bin", "model.safetensors.index.json"],
)
def test_a_models_folder_without_weights_is_refused_before_anything_loads(weights, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    check_study(load_study("tiny", [f"model.name={tmp_path}"]))
    with pytest.raises(StudyFileError, match=r"has no weights; looked for: model\*\.safetensors, pytorch_model\*\.bin"):
        check_weights("mine", str(tmp_path))
    (tmp_path / weights).touch()
    check_weights("mine", str(tmp_path))


@pytest.mark.parametrize(("name", "command"), BROUGHT.items())
def test_a_shipped_model_whose_weights_do_not_come_along_names_what_brings_them(name, command, tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        said = re.escape(f"'{name}' is not on this machine yet; {command} brings it")
        with pytest.raises(StudyFileError, match=said):
            check_weights(name, str(folder))


def test_a_hub_id_is_left_to_the_hub():
    check_weights("some-owner/some-model", "some-owner/some-model")
