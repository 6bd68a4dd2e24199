"""Every kind of reward is treated alike by a first try, by both learners and by scoring, on a real engine."""

import importlib
import math
import pkgutil

import pytest

from objectives.tasks.string_ops import StringOps
from tests import reward_kinds
from tests.support.reward_ways import HELD_OUT, PROMPTS, STEPS, Ways

KINDS = [kind.name for kind in pkgutil.iter_modules(reward_kinds.__path__)]
LEAVES_OUT = {"none_for_some_rows", "none_for_some_completions"}
WAYS = ("tried", "scored", "trl", "packed")


@pytest.fixture
def ways(tiny, unsloth_policy, vllm_engine, tmp_path, capfd):
    task = StringOps(symbols=12, seed=0)
    with capfd.disabled():
        yield Ways(policy=unsloth_policy, engine=vllm_engine, model=tiny, task=task, folder=tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reward_is_treated_alike_wherever_it_is_called(kind, ways):
    module = importlib.import_module(f"tests.reward_kinds.{kind}")
    outcomes = {way: ways.outcome(way, module.reward) for way in WAYS}
    refusal = getattr(module, "SAYS", None)
    if refusal is not None:
        lines = {way: outcome for way, outcome in outcomes.items() if isinstance(outcome, str)}
        assert set(lines) == set(WAYS), outcomes
        assert all(refusal in line and "\n" not in line for line in lines.values()), lines
        return
    assert not any(isinstance(outcome, str) for outcome in outcomes.values()), outcomes
    tried, scored = outcomes["tried"], outcomes["scored"]
    weighed = [module.weighs(row, text) for row, text in seen(tried, ways.task)]
    given = [None if math.isnan(total) else total for group in tried.groups for total in group.totals]
    assert given == weighed
    assert math.isfinite(scored.sampled)
    assert scored.prompts > 0
    assert scored.prompts + scored.unscored == HELD_OUT
    assert bool(scored.unscored) == bool(scored.unscored_prompt) == (kind in LEAVES_OUT)
    for way in ("trl", "packed"):
        assert [metrics.step for metrics in outcomes[way]] == list(range(1, STEPS + 1))
        assert any(metrics.unscored for metrics in outcomes[way]) == (kind in LEAVES_OUT)
    for ours, theirs in zip(outcomes["packed"], outcomes["trl"], strict=True):
        assert ours.unscored == theirs.unscored
        assert ours.reward == pytest.approx(theirs.reward, nan_ok=True, rel=1e-5)


def seen(preview, task):
    """Each row and completion of a preview."""
    rows = task.train_rows(PROMPTS)
    assert [group.prompt for group in preview.groups] == [row["prompt"] for row in rows]
    return [(row, text) for row, group in zip(rows, preview.groups, strict=True) for text in group.completions]
