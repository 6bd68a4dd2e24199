import re
import tomllib
from copy import deepcopy
from pathlib import Path

import pytest

from objectives.settings.learner import PackedSettings, TrlSettings
from sweep.errors import StudyFileError
from sweep.storage.database import changed_keys
from sweep.study.file import StudyFile
from sweep.study.reading import (
    find_study,
    line_of,
    load_study,
    make_study,
    parse_override,
    parse_study,
    shipped_studies,
)

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


PACKS_ONLY = {"learner.pack_size": 3, "learner.importance_sampling_correction": "token_mask"}
TRLS_ONLY = {"learner.report_to": ["wandb"], "learner.optim": "adamw_8bit"}


def made(settings, **learner):
    """The shipped study with these keys in its `[learner]`, and with these settings."""
    return make_study({**deepcopy(TINY), "learner": learner}, settings, source="test.toml", folder=Path())


@pytest.mark.parametrize(
    ("learner", "other", "key"),
    [("trl", "packed", key) for key in PACKS_ONLY] + [("packed", "trl", key) for key in TRLS_ONLY],
)
def test_a_key_that_only_the_other_learner_takes_is_refused_in_one_line_that_says_which(learner, other, key):
    value = (PACKS_ONLY | TRLS_ONLY)[key]
    named = re.escape(f"test.toml: learner: {key.removeprefix('learner.')}={value!r} needs name = '{other}'")
    with pytest.raises(StudyFileError, match=f"^{named}[^\n]*$"):
        made({"learner.name": learner, key: value})
    assert made({"learner.name": other, key: value}).learner.name == other


def test_the_learner_that_a_command_names_takes_a_file_that_was_written_for_the_other():
    assert made({"learner.name": "trl"}, name="packed", pack_size=3).learner == TrlSettings()
    assert made({"learner.name": "packed"}, name="trl", report_to=["wandb"]).learner == PackedSettings(name="packed")
    assert made({"learner.name": "packed"}, name="packed", pack_size=3).learner.slots == 3
    # What bears on training is not dropped unseen.
    with pytest.raises(StudyFileError, match="importance_sampling_correction='token_mask' needs name = 'packed'"):
        made({"learner.name": "trl"}, name="packed", importance_sampling_correction="token_mask")


def test_a_section_without_a_name_is_trls():
    assert made({}, beta=0.1).learner == TrlSettings(beta=0.1)


@pytest.mark.parametrize("learner", ["packed", "trl"])
def test_a_study_that_was_stored_with_every_key_of_both_learners_is_read_as_it_was_run(learner):
    content = load_study("tiny", [f"learner.name={learner}"]).model_dump(mode="json")
    both = {"pack_size": 4, "report_to": [], "importance_sampling_correction": "none"}
    stored = {**content, "learner": {**content["learner"], **both}}
    read = StudyFile.model_validate(stored)
    assert changed_keys(read.model_dump(mode="json"), content) == []
    assert read.learner.slots == (4 if learner == "packed" else 1)


def test_an_unknown_key_of_a_task_is_answered_with_the_tasks_own():
    with pytest.raises(StudyFileError, match=r"task\.symbol: unknown key; did you mean 'symbols'\? allowed: train_"):
        parse(task__symbol=4)


def test_lines_of_a_study_file_are_counted_by_newlines_alone(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text('[study]\ndescription = "one\u2028two\x85three"\n[budget]\nsteps = 4\n')
    assert line_of(file, "budget.steps") == 4


def test_a_study_file_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "mine.toml").write_text(find_study("tiny").read_text(), encoding="utf-8-sig")
    assert load_study(str(tmp_path / "mine.toml")).study.name == "tiny"
