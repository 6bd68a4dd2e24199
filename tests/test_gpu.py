"""What only a GPU can show. Run with `pytest -m gpu`; every other test runs without one."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def measured():
    """What `benchmarks.gpu` measures at two ceilings, on a random model."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--ceilings", "8", "64"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["ceilings"]


def test_adapters_of_different_ranks_take_turns_on_one_engine(measured):
    turns = measured[1]["turns"]
    assert [turn["r"] for turn in turns] == [turn["engine_r"] for turn in turns]
    assert [turn["engine_alpha"] for turn in turns] == [2 * turn["r"] for turn in turns]


def test_the_engine_serves_the_weights_of_the_adapter_that_was_published_last(measured):
    assert max(turn["mean_logprob_gap"] for row in measured for turn in row["turns"]) < 0.1


def test_adapter_memory_is_what_was_planned_to_the_byte(measured):
    assert [row["actual_bytes"] for row in measured] == [row["planned_bytes"] for row in measured]
