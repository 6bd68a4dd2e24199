"""A stored study of thousands of trials, written row by row: through Optuna it would take minutes."""

import json
import random
import sqlite3

import optuna

from sweep.confirmation.naming import confirmation_name
from sweep.search.schedule import distributions
from sweep.storage import attributes
from sweep.storage.attributes import DESIGN, FROZEN, LOOKS, SEED
from sweep.storage.database import create_or_match_study, open_storage
from sweep.storage.schema import rule_of, schema_of, stored_critical
from sweep.study.reading import load_study

OVERRIDES = ["learner.name=trl", "study.name=large", "search.trials=2000", "search.points_per_rank=12"]
COLUMNS = ("reward", "reward_std", "groups_without_signal", "completion_length", "entropy", "loss", "grad_norm")
BASE = {"step": 0, "sampled": 0.257, "greedy": 0.37, "prompts": 1024, "spread": 0.437}
PLATEAU = {1: 0.44, 4: 0.56, 16: 0.60, 64: 0.60}
FACTS = {
    "policy": "unsloth", "engine": "vllm", "learner": "trl", "importance_sampling_correction": "none",
    "versions": {"rank-sweep": "0.1.0", "torch": "2.13.0+cpu", "trl": "1.13.0", "optuna": "5.0.0"},
    "python": "3.11.9", "device": "cpu", "cpu": "Example 9000", "cores": 2, "threads": 2, "load_seconds": 21.0,
}  # fmt: skip


def large_study(folder, *, trials=2000, steps=80, seeds=10):
    """A search of `trials`, a fifth of them collapsed, and its confirmation."""
    path = folder / "rank-sweep.db"
    storage = open_storage(f"sqlite:///{path}", create=True)
    config = load_study("tiny", [*OVERRIDES, f"budget.steps={steps}"])
    rng = random.Random(0)
    ladders = config.search_space().ladders
    study = create_or_match_study(storage, config, optuna.samplers.RandomSampler())
    study.set_user_attr(attributes.BASELINE, BASE)
    study.set_user_attr(attributes.FACTS, FACTS)
    points = [{name: rng.choice(ladder) for name, ladder in ladders.items()} for _ in range(trials)]
    _insert(path, study, [_trial(point, i, steps, rng) for i, point in enumerate(points)])
    confirmation = create_or_match_study(
        storage, config, optuna.samplers.RandomSampler(), name=confirmation_name("large")
    )
    frozen = [{"r": r, "alpha": 32, "learning_rate": 2e-3} for r in ladders["r"]]
    confirmation.set_user_attr(attributes.FACTS, FACTS)
    confirmation.set_user_attr(LOOKS, [seeds])
    confirmation.set_user_attr(attributes.CRITICAL, stored_critical(rule_of(config, schema_of(confirmation))))
    confirmation.set_user_attr(
        FROZEN,
        {
            "frozen": [
                point | {"smoothed": PLATEAU[point["r"]], "search_mean": PLATEAU[point["r"]], "n_search_trials": 40}
                for point in frozen
            ],
            "untuned": [],
            "noise_sd": 0.04,
        },
    )
    points = [(point, 1_000_000 + seed) for seed in range(seeds) for point in frozen]
    _insert(path, confirmation, [_trial(point, seed, steps, rng) for point, seed in points])
    return study


def _trial(point, seed, steps, rng):
    """What the supervisor stores of one trial: its state and its attributes."""
    r, product = point["r"], point["alpha"] * point["learning_rate"]
    collapsed = product > 0.3 or (product > 0.2 and rng.random() < 0.35)
    length = rng.randint(6, steps) if collapsed else steps
    score = 0.01 if collapsed else PLATEAU[r] - 0.02 * abs(rng.gauss(0, 1)) + rng.gauss(0, 0.03)
    reached = [0.25 + (score - 0.25) * step / length + rng.gauss(0, 0.03) for step in range(1, length + 1)]
    curve = {name: [round(rng.random(), 6) for _ in range(length)] for name in COLUMNS}
    per_step = rng.randint(500, 640)
    curve |= {
        "step": list(range(1, length + 1)),
        "reward": [round(value, 6) for value in reached],
        "tokens": [per_step * step for step in range(1, length + 1)],
        "seconds": [round(0.18 + 0.001 * r + 0.02 * rng.random(), 6) for _ in range(length)],
        "reward:exact": [round(value, 6) for value in reached],
        "reward_std:exact": [0.1] * length,
    }
    marks = [length] if collapsed else sorted({max(1, steps // 4), max(1, steps // 2), steps})
    attrs = {
        SEED: seed,
        DESIGN: True,
        attributes.SCORES: [{"step": s, "sampled": score, "greedy": score + 0.1, "prompts": 1024} for s in marks],
        attributes.BASE: BASE,
        attributes.CURVE: curve,
        attributes.COST: {
            "steps": length, "tokens": per_step * length, "adapter_parameters": 6144 * r, "seconds": {"train": 14.0},
        },
        attributes.COLLAPSED: collapsed,
    }  # fmt: skip
    if collapsed:
        attrs[attributes.REASON] = f"collapsed at step {length}: reward 0.000 against the base policy's 0.257"
    return point, "PRUNED" if collapsed else "COMPLETE", score, attrs


def _insert(path, study, trials):
    """Writes trials of one study into Optuna's tables."""
    config = load_study("tiny", OVERRIDES)
    kinds = {
        name: (kind, optuna.distributions.distribution_to_json(kind))
        for name, kind in distributions(config.search_space()).items()
    }
    with sqlite3.connect(path) as db:
        [first] = db.execute("select coalesce(max(trial_id), 0) + 1 from trials").fetchone()
        for number, (point, state, score, attrs) in enumerate(trials):
            trial = first + number
            times = ("2026-01-01 10:00:00.000000", "2026-01-01 10:00:19.500000")
            db.execute("insert into trials values (?, ?, ?, ?, ?, ?)", (trial, number, study._study_id, state, *times))
            if state == "COMPLETE":
                db.execute(
                    "insert into trial_values (trial_id, objective, value, value_type) values (?, 0, ?, 'FINITE')",
                    (trial, score),
                )
            db.executemany(
                "insert into trial_params (trial_id, param_name, param_value, distribution_json) values (?, ?, ?, ?)",
                [(trial, name, kind.to_internal_repr(point[name]), text) for name, (kind, text) in kinds.items()],
            )
            db.executemany(
                "insert into trial_user_attributes (trial_id, key, value_json) values (?, ?, ?)",
                [(trial, key, json.dumps(value)) for key, value in attrs.items()],
            )
            db.executemany(
                "insert into trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
                "values (?, ?, ?, 'FINITE')",
                [(trial, step, reward) for step, reward in enumerate(attrs[attributes.CURVE]["reward"], start=1)],
            )
