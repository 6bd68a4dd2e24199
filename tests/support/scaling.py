"""Stored studies under another unit and zero of their reward: a * reward + c in everything that was measured."""

import json
import sqlite3

import optuna

from sweep.storage import attributes
from sweep.storage.attributes import CONFIG, FROZEN
from sweep.storage.database import open_storage


def scale_storage(path, folder, a, c, *, study="tiny"):
    """Copies a storage into a folder with its rewards mapped; the search, opened.

    Args:
        path: An SQLite file.
        folder: Where the copy goes.
        a: What rewards are multiplied by.
        c: What is then added.
        study: The search's name.
    """
    folder.mkdir(exist_ok=True)
    copy = folder / "scaled.db"
    with sqlite3.connect(path) as original, sqlite3.connect(copy) as db:
        original.backup(db)
        for table in ("study_user_attributes", "trial_user_attributes"):
            key = table.split("_")[0] + "_user_attribute_id"
            rows = db.execute(f"SELECT {key}, key, value_json FROM {table}").fetchall()
            mapped = [(json.dumps(scale_attribute(name, json.loads(text), a, c)), row) for row, name, text in rows]
            db.executemany(f"UPDATE {table} SET value_json = ? WHERE {key} = ?", mapped)
        db.execute("UPDATE trial_values SET value = ? * value + ?", (a, c))
        db.execute("UPDATE trial_intermediate_values SET intermediate_value = ? * intermediate_value + ?", (a, c))
    original.close()
    db.close()
    return optuna.load_study(study_name=study, storage=open_storage(f"sqlite:///{copy}", create=False))


def scale_attribute(name, value, a, c):
    """One attribute of a study or trial."""
    if name in (attributes.BASELINE, attributes.BASE):
        return scale_score(value, a, c)
    if name == attributes.SCORES:
        return [scale_score(score, a, c) for score in value]
    if name == attributes.CURVE:
        return {column: _scaled_column(column, values, a, c) for column, values in value.items()}
    if name == FROZEN:
        frozen = [point | {key: a * point[key] + c for key in ("smoothed", "search_mean")} for point in value["frozen"]]
        return value | {"frozen": frozen, "noise_sd": a * value["noise_sd"]}
    if name == CONFIG and value["verdict"].get("tolerance"):
        return value | {"verdict": value["verdict"] | {"tolerance": a * value["verdict"]["tolerance"]}}
    return value


def scale_score(score, a, c):
    """A held-out score, as stored."""
    means = {key: a * score[key] + c for key in ("sampled", "greedy")}
    spread = score.get("spread")
    return score | means | ({} if spread is None else {"spread": a * spread})


def _scaled_column(column, values, a, c):
    if column == "reward" or column.startswith("reward:"):
        return [None if value is None else a * value + c for value in values]
    if column.startswith("reward_std"):
        return [None if value is None else a * value for value in values]
    return values
