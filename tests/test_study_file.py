import tomllib
from copy import deepcopy

import pytest

from sweep.errors import StudyFileError
from sweep.study.reading import find_study, load_study, parse_override, parse_study, shipped_studies

TINY = tomllib.loads(find_study("tiny").read_text())


def parse(**changes):
    content = deepcopy(TINY)
    for name, value in changes.items():
        section, key = name.split("__")
        content[section][key] = value
    return parse_study(content, source="test.toml")


@pytest.mark.parametrize("name", shipped_studies())
def test_every_shipped_study_is_valid_and_has_its_files_name(name):
    assert load_study(name).study.name == name


def test_the_ladder_of_tiny_is_the_whole_range_under_its_ceiling():
    study = load_study("tiny")
    assert study.search_space().r[0] == 1
    assert study.search_space().r[-1] == study.model.max_lora_rank == 64
    assert study.search.trials >= 12


def test_ladders_default_to_the_ceiling_and_below():
    content = deepcopy(TINY)
    del content["space"]["r"], content["space"]["alpha"]
    space = parse_study(content, source="test.toml").search_space()
    assert space.r == (1, 4, 16, 64)
    assert space.alpha == (4, 16, 64)


def test_a_ceiling_that_vllm_does_not_permit_is_rounded_up_for_the_engine_alone():
    study = parse(model__max_lora_rank=48, space__r=[1, 48], space__alpha=[16, 48])
    assert study.engine_max_lora_rank == 64
    assert study.worker_settings("logs").model.max_lora_rank == 64
    assert study.search_space().max_lora_rank == 48


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space__r": [1, 96]}, "r=96 exceeds max_lora_rank=64"),
        ({"space__rr": [1]}, r"space\.rr: unknown key; did you mean 'r'\? allowed: r, alpha"),
        ({"budget__stepz": 3}, "did you mean 'steps'"),
        ({"task__symbols": 5}, r"task.*symbols.*5"),
        ({"task__name": "gsm9k"}, r"task\.name is missing or no task; allowed: string_ops, dataset.*given: 'gsm9k'"),
        ({"budget__group_size": 1}, r"budget\.group_size.*greater than or equal to 2.*given: 1"),
        ({"study__name": "a b"}, r"study\.name"),
        ({"search__points_per_rank": 13}, "points_per_rank=13 exceeds the 12 combinations.*allowed: 1 to 12"),
        ({"learner__micro_batch_size": 7}, "micro_batch_size=7 must divide the 128 completions"),
        ({"model__max_lora_rank": "big"}, r"model\.max_lora_rank.*given: 'big'"),
    ],
)
def test_a_mistake_is_named_with_its_value_and_what_is_allowed(changes, message):
    with pytest.raises(StudyFileError, match=message):
        parse(**changes)


def test_a_missing_key_is_named():
    content = deepcopy(TINY)
    del content["budget"]["steps"]
    with pytest.raises(StudyFileError, match=r"budget\.steps: missing"):
        parse_study(content, source="test.toml")


def test_an_unknown_section_is_named_with_the_nearest_one():
    with pytest.raises(StudyFileError, match="bugdet: unknown key; did you mean 'budget'"):
        parse_study({**TINY, "bugdet": {}}, source="test.toml")


@pytest.mark.parametrize(
    ("override", "value"),
    [("budget.steps=7", 7), ("space.r=[1, 2]", [1, 2]), ("model.name=my/model", "my/model"), ('study.name="x"', "x")],
)
def test_an_override_is_read_as_toml_or_else_as_a_word(override, value):
    assert parse_override(override) == (override.split("=")[0], value)


@pytest.mark.parametrize("override", ["steps=7", "budget.steps", "budget.=7", "=", "budget.steps=", ".a=1"])
def test_an_override_of_another_form_is_refused(override):
    with pytest.raises(StudyFileError, match=r"allowed: section\.key=value"):
        parse_override(override)


def test_a_misspelt_study_is_answered_with_the_nearest_name():
    with pytest.raises(StudyFileError, match=r"no study 'tinny'; did you mean 'tiny'\? allowed: .*tiny_1_symbol"):
        find_study("tinny")


def test_a_file_that_is_not_toml_is_refused_with_its_path(tmp_path):
    path = tmp_path / "broken.toml"
    path.write_text("[study\n")
    with pytest.raises(StudyFileError, match=r"broken\.toml: not TOML"):
        load_study(str(path))


def test_all_linear_stands_for_every_linear_module_as_in_peft():
    for value in ('"all-linear"', '["all-linear"]'):
        assert load_study("tiny", [f"model.target_modules={value}"]) == load_study("tiny")
