"""What a first try says: readable at 80 columns, and the same words for any scale of the reward."""

import io
import json
import math

import pytest
from rich.console import Console

from objectives.trial.preview import Group, Preview
from sweep.running.reward_preview import judge_signal, preview_json
from sweep.terminal.reward_preview import preview_report

NAMES = [f"format_of_the_answer_{n}" for n in range(7)]


def preview(names, *groups, warnings=()):
    """Groups of (completion, total); every function gave the total."""
    return Preview(
        groups=tuple(
            Group(
                prompt="2 + 2?",
                completions=tuple(text for text, _ in group),
                rewards={name: tuple(total for _, total in group) for name in names},
                totals=tuple(math.nan if total is None else total for _, total in group),
                truncated=0,
            )
            for group in groups
        ),
        warnings=warnings,
    )


def printed(shown):
    out = io.StringIO()
    Console(file=out, width=80).print(preview_report(shown, show=3))
    return out.getvalue()


def test_seven_functions_are_named_in_full_and_completions_are_shown():
    text = "I add two and two, and then I find that it is four."
    lines = printed(preview(NAMES, [(text, 1.0), ("five", None)]))
    assert all(lines.count(name) == 3 for name in NAMES)
    assert text in lines
    assert "-  five" in lines
    assert "…" not in lines
    assert max(map(len, lines.splitlines())) <= 80


def test_few_functions_are_a_table():
    lines = printed(preview(["right"], [("four", 1.0), ("five", None)], warnings=("Look out.",)))
    assert "completion  right" in lines
    assert "Look out." in lines


@pytest.mark.parametrize("value", [0.0, -7.5, 100.0])
def test_a_reward_that_is_the_same_everywhere_is_told_with_its_value(value):
    signal = judge_signal(preview(["r"], [("a", value), ("b", value)], [("c", value), ("d", value)]))
    assert signal.can_learn == "no"
    assert f"0 of 2 groups have signal; every completion gets {value:g}" in signal.sentence


def test_completions_without_a_reward_are_left_out_and_null_in_json():
    tried = preview(["r"], [("a", 1.0), ("b", None)], [("c", 1.0), ("d", 3.0)])
    assert [group.has_signal for group in tried.groups] == [False, True]
    assert tried.mean == pytest.approx(5 / 3)
    content = json.loads(json.dumps(preview_json(tried), allow_nan=False))
    assert content["groups"][0]["totals"] == [1.0, None]


def test_the_spread_is_that_of_completions_that_have_a_reward():
    shown = preview(["mine"], [("a", 1.0), ("b", None)], [("c", 3.0), ("d", None)])
    assert (shown.mean, shown.spread) == (2.0, 1.0)


def test_small_rewards_are_shown_with_the_digits_that_they_need():
    assert "0.000000" in printed(preview(["mine"], [("a", 1e-7), ("b", 3e-7)])) or "e-" in printed(
        preview(["mine"], [("a", 1e-7), ("b", 3e-7)])
    )
    assert "0.000 " not in printed(preview(["mine"], [("a", 1e-7), ("b", 3e-7)]))
