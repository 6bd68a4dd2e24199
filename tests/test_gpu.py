"""What only a GPU can show. Run with `pytest -m gpu`; every other test runs without one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What `benchmarks.gpu` measures within its ten minutes."""
    folder = tmp_path_factory.mktemp("benchmark")
    command = [sys.executable, "-m", "benchmarks.gpu"]
    # The folder is not ours: results of other runs that lie in the working folder stay as they are.
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((folder / "gpu-benchmark.json").read_text())


def results(measured, prefix):
    """The results of some parts, of which one at least had its turn."""
    begun = {key: outcome for key, outcome in measured.items() if key.startswith(prefix) and outcome["seconds"]}
    assert begun, f"no part {prefix} had its turn"
    assert [f"{key}: {outcome['error']}" for key, outcome in begun.items() if "error" in outcome] == []
    return [outcome["result"] for outcome in begun.values()]


def test_adapters_of_different_ranks_take_turns_on_one_engine(measured):
    turns = [turn for row in results(measured, "ceiling_") for turn in row["turns"]]
    assert [turn["r"] for turn in turns] == [turn["engine_r"] for turn in turns]
    assert [turn["engine_alpha"] for turn in turns] == [2 * turn["r"] for turn in turns]


def test_the_engine_serves_the_weights_of_the_adapter_that_was_published_last(measured):
    rows = results(measured, "ceiling_")
    assert max(turn["mean_logprob_gap"] for row in rows for turn in row["turns"]) < 0.1


def test_adapter_memory_is_what_was_planned_to_the_byte(measured):
    rows = results(measured, "ceiling_")
    assert [row["actual_bytes"] for row in rows] == [row["planned_bytes"] for row in rows]


def test_every_learner_trains_within_the_memory_that_was_planned(measured):
    for found in (*results(measured, "trl_"), *results(measured, "packed_")):
        memory = found["memory"]
        assert memory["training_bytes"] <= memory["planned_training_bytes"]


def test_packed_trials_score_as_trls_do(measured):
    [found] = results(measured, "equality")
    assert found["lower"] <= 0 <= found["upper"]


def test_the_engine_serves_eight_adapters_at_once(measured):
    [found] = results(measured, "rollouts")
    assert found["tokens_per_s"]["8"] > 0
