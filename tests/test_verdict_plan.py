"""What a verdict can show, said before anything is paid for."""

import json

import numpy as np
import pytest

from sweep.planning.verdict import plan_verdict, shown_gap
from sweep.statistics.decision import step_down, weigh
from sweep.statistics.power import smallest_gap
from sweep.storage.schema import CURRENT, rule_of
from sweep.study.reading import load_study
from tests.support.command import sweep


def planned(*overrides):
    return plan_verdict(load_study("tiny", list(overrides)))


def found(plan, *, gain, spread, ranks=4, rule):
    """Share of simulated studies of equal ranks in which the smallest is found, with sampling noise alone."""
    rng = np.random.default_rng(0)
    sd, shape = spread / np.sqrt(plan.held_out_prompts), (2000, ranks, plan.seeds)
    gains = gain + rng.normal(0, sd, shape) - rng.normal(0, sd, (2000, 1, plan.seeds))
    evidence = weigh(gains, np.zeros(shape, dtype=bool), rule)
    return float(step_down(evidence, np.zeros((2000, ranks)), rule).passes[:, 0].mean())


@pytest.mark.parametrize("seeds", [4, 6, 10, 20, 100])
@pytest.mark.parametrize("rivals", [1, 3, 6])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.975])
def test_the_reach_is_that_of_the_verdicts_own_test(seeds, rivals, confidence):
    exact = smallest_gap(1.0, seeds, rivals, confidence)
    assert shown_gap(seeds, rivals, confidence) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("prompts", [64, 1024])
def test_the_smallest_gain_is_judged_four_times_in_five_and_half_of_it_is_not(prompts):
    config = load_study("tiny", [f"task.held_out_prompts={prompts}"])
    plan, rule = plan_verdict(config), rule_of(config, CURRENT)
    assert 0.78 < found(plan, gain=plan.smallest_gain * 0.43, spread=0.43, rule=rule) < 0.95
    assert found(plan, gain=plan.smallest_gain * 0.43 / 2, spread=0.43, rule=rule) < 0.5


def test_the_widest_spread_lets_equals_be_found_four_times_in_five():
    config = load_study("tiny", ["verdict.tolerance=0.05"])
    plan, rule = plan_verdict(config), rule_of(config, CURRENT)
    assert 0.78 < found(plan, gain=10.0, spread=plan.widest_spread, rule=rule) < 0.95
    assert found(plan, gain=10.0, spread=2 * plan.widest_spread, rule=rule) < 0.5


def test_more_prompts_and_more_seeds_show_smaller_gains():
    gains = [planned(*o).smallest_gain for o in (["verdict.seeds=5"], [], ["task.held_out_prompts=4096"])]
    assert gains == sorted(gains, reverse=True)


@pytest.mark.parametrize("scale", [0.01, 1, 100])
def test_what_keep_asks_for_grows_with_the_reward(scale):
    assert (
        f"a best gain of {'0.0011' if scale == 0.01 else '0.11' if scale == 1 else '11'} or more"
        in planned().against(0.43 * scale)
    )


def test_a_tolerance_is_held_against_the_spread():
    plan = planned("verdict.tolerance=0.05")
    assert (
        "0.12 of it: up to 14 seeds per rank on at most 1,024 held-out prompts can find equals equal"
        in plan.against(0.43)
    )
    assert (
        "0.0015 of it: up to 14 seeds per rank on at most 1,024 held-out prompts cannot find equals equal"
        in plan.against(33)
    )
    assert "it calls ranks equal that differ by all there is" in plan.against(0.01)
    assert "the same for every completion" in plan.against(0.0)


def test_a_plan_says_what_the_verdict_can_show(tmp_path):
    kept = sweep("plan", "tiny", cwd=tmp_path)
    assert "keep 85 % of the best gain" in " ".join(kept.stdout.split())
    shown = json.loads(sweep("plan", "tiny", "--set", "verdict.tolerance=0.05", "--json", cwd=tmp_path).stdout)
    assert shown["verdict"]["tolerance"] == 0.05
    assert shown["verdict"]["keep"] is None
    assert shown["verdict"]["widest_spread"] == pytest.approx(1.17, abs=0.01)


def test_a_verdict_declared_in_both_ways_is_refused_in_one_line(tmp_path):
    both = ["--set", "verdict.keep=0.9", "--set", "verdict.tolerance=0.05"]
    done = sweep("plan", "tiny", *both, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "keep=0.9 and tolerance=0.05 say one thing in two ways; allowed: one of them" in done.stderr


def test_either_way_is_taken_and_neither_means_keep():
    assert (planned("verdict.tolerance=0.05").keep, planned("verdict.tolerance=0.05").tolerance) == (None, 0.05)
    assert (planned("verdict.keep=0.9").keep, planned().keep) == (0.9, 0.85)


def test_the_plan_names_the_guards():
    guarded = planned("verdict.guards=[{measure='completion_tokens', worse_by=2}, {measure='cut', worse_by=0.1}]")
    assert (
        "It may be worse in completion length by at most 2 and share of cut completions by at most 0.1"
        in guarded.sentence
    )
    assert "may be worse" not in planned().sentence
