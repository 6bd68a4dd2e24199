"""A study knows the user's files by their hashes: scores under one reward are not averaged with those under another."""

import json

import optuna
import pytest
from datasets import Dataset

from sweep.errors import StudyMismatchError
from sweep.storage.attributes import SCORES, SOURCES
from sweep.storage.database import create_or_match_study, match_study, open_storage
from sweep.study.reading import load_study
from sweep.study.sources import source_hashes
from tests.support.bad_input import DATASET, MANY, REWARDS
from tests.test_bad_input import edited


@pytest.fixture
def folder(tmp_path):
    task = {**DATASET, "held_out_split": "test.csv", "reward": ["rewards:right", "scoring.near:close"]}
    (tmp_path / "study.toml").write_text(edited({"task": task}))
    (tmp_path / "rewards.py").write_text("import shared\n" + REWARDS)
    (tmp_path / "shared.py").write_text("")
    (tmp_path / "scoring").mkdir()
    (tmp_path / "scoring" / "near.py").write_text("close = 1")
    (tmp_path / "rows.jsonl").write_text(MANY)
    (tmp_path / "test.csv").write_text("prompt\nx\n")
    return tmp_path


def stored(folder, *overrides):
    config = load_study(str(folder / "study.toml"), list(overrides))
    storage = open_storage(f"sqlite:///{folder}/sweep.db", create=True)
    return create_or_match_study(storage, config, optuna.samplers.RandomSampler()), config


def score(study):
    trial = study.ask({"r": optuna.distributions.CategoricalDistribution([1])})
    trial.set_user_attr(SCORES, [])
    study.tell(trial, 0.5)


def test_every_file_of_the_users_own_is_hashed(folder):
    study, _ = stored(folder)
    names = {"rewards.py", "shared.py", "scoring/near.py", "rows.jsonl", "test.csv"}
    assert study.user_attrs[SOURCES].keys() == names
    assert all(len(digest) == 64 for digest in study.user_attrs[SOURCES].values())
    assert source_hashes(load_study("tiny")) == {}


def test_weights_that_are_made_in_place_are_hashed(tmp_path, monkeypatch):
    monkeypatch.setattr("objectives.settings.sections.SHIPPED_MODELS", tmp_path)
    (tmp_path / "small").mkdir()
    weights = tmp_path / "small" / "model.safetensors"
    digests = []
    for content in (b"one", b"other", b"one"):
        weights.write_bytes(content)
        digests.append(source_hashes(load_study("small")).pop("shipped/small"))
    assert digests[0] == digests[2] != digests[1]


def test_the_same_files_elsewhere_are_the_same(folder, tmp_path_factory):
    import shutil

    before, elsewhere = stored(folder)[0].user_attrs[SOURCES], tmp_path_factory.mktemp("moved") / "study"
    shutil.copytree(folder, elsewhere)
    assert source_hashes(load_study(str(elsewhere / "study.toml"))) == before


def test_a_change_is_refused_by_name_once_there_are_scores(folder):
    study, _ = stored(folder)
    (folder / "rewards.py").write_text("import shared, more\n" + REWARDS)
    (folder / "more.py").write_text("")
    study, config = stored(folder)  # no score yet that a new one could not be compared with
    assert "more.py" in study.user_attrs[SOURCES]
    score(study)
    stored(folder)
    (folder / "shared.py").write_text("x = 1")
    (folder / "rows.jsonl").write_text(MANY[: len(MANY) // 2])
    (folder / "rewards.py").write_text("import shared, other\n" + REWARDS)
    (folder / "other.py").write_text("")
    with pytest.raises(
        StudyMismatchError,
        match=r"was run with other files: more\.py is no longer used; other\.py is new; rewards\.py has changed; "
        r"rows\.jsonl has changed; shared\.py has changed\. Give it another study\.name, or undo the change",
    ):
        match_study(study, config)


def test_a_study_from_before_hashes_were_stored_goes_on_and_has_them_from_then_on(folder):
    study, config = stored(folder)
    score(study)
    study._storage._backend.engine.dispose()
    import sqlite3

    with sqlite3.connect(folder / "sweep.db") as connection:
        connection.execute("DELETE FROM study_user_attributes WHERE key = ?", (SOURCES,))
    study, config = stored(folder)
    assert study.user_attrs[SOURCES] == source_hashes(config)


def test_a_folder_of_data_is_hashed_file_by_file(tmp_path):
    rows = [json.loads(line) for line in MANY.splitlines()]
    Dataset.from_list(rows).save_to_disk(tmp_path / "saved", num_shards=2)
    (tmp_path / "study.toml").write_text(edited({"task": {**DATASET, "data": "saved"}}))
    config = load_study(str(tmp_path / "study.toml"))
    before = source_hashes(config)
    assert before.keys() == {"saved"}
    shard = max((tmp_path / "saved").glob("*.arrow"))
    shard.write_bytes(shard.read_bytes() + b"x")
    assert source_hashes(config)["saved"] != before["saved"]


def test_the_order_of_named_rewards_counts_and_their_time_limit_does_not(folder):
    both = '{{ {} = "rewards:right", {} = "scoring.near:close" }}'
    study, _ = stored(folder, "task.reward=" + both.format("a", "b"))
    study.ask()
    stored(folder, "task.reward=" + both.format("a", "b"), "task.reward_timeout_s=7")
    turned = '{ b = "scoring.near:close", a = "rewards:right" }'
    with pytest.raises(StudyMismatchError, match=r"task\.reward"):
        stored(folder, f"task.reward={turned}")
