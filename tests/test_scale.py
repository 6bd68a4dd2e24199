"""What is shown of rewards of any units and sign: whole in 80 columns, and told apart."""

import io
import re

import pytest
from rich.console import Console

from objectives.figures import decimals
from objectives.trial.preview import Group, Preview
from sweep.html_report.contents import read_report
from sweep.html_report.page import report_html
from sweep.running.reward_preview import judge_signal
from sweep.storage.summary import summarize
from sweep.terminal.tables import study_table
from sweep.terminal.verdict import verdict_report
from sweep.text import decimals_for, figure
from tests.support.scaling import scale_storage
from tests.test_confirm import POINTS as TUNED_POINTS
from tests.test_plots import stored_study
from tests.test_report import confirm_study

MAPS = [(a, c) for a in (0.01, 1, 100) for c in (-1000, -1, 0, 1, 1000)]


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale")
    stored_study(folder, points=TUNED_POINTS)
    confirm_study(folder)
    return folder / "rank-sweep.db"


def printed(*parts):
    console = Console(width=80, file=io.StringIO())
    for part in parts:
        console.print(part)
    return console.file.getvalue()


@pytest.mark.parametrize(("a", "c"), MAPS)
def test_tables_are_whole_in_eighty_columns_and_tell_ranks_apart(a, c, storage, tmp_path):
    report = read_report(scale_storage(storage, tmp_path, a, c))
    evidence = report.evidence
    text = printed(verdict_report(evidence.confirmed, evidence.summary), study_table(evidence.summary))
    assert "…" not in text
    means = {f"{a * mean + c:.{evidence.summary.decimals}f}" for mean in (0.41, 0.59, 0.61)}
    assert all(mean in text for mean in means)
    strips = [line for line in text.splitlines() if "|" in line and ", 0.00" in line]
    assert len(strips) == 3
    marks = [re.search("[o8]", line[line.index("|") :]).start() for line in strips]
    assert marks == sorted(set(marks)), "marks of larger rewards stand further to the right"
    assert "r=4 is the smallest to keep 85 % of the best gain" in " ".join(text.split())
    assert " 99%" in text


def test_a_page_of_large_negative_rewards_has_no_more_decimals_than_it_needs(storage, tmp_path):
    page = report_html(read_report(scale_storage(storage, tmp_path, 100, -1000)))
    assert "<td>-940.0</td>" in page
    assert "base policy -975.0" in page


def test_equal_rewards_have_a_table_too(tmp_path):
    stored_study(tmp_path, points=[(r, alpha, rate, 0.25) for r, alpha, rate, _ in TUNED_POINTS])
    study = scale_storage(tmp_path / "rank-sweep.db", tmp_path / "to", 0, -7.5)
    text = printed(study_table(summarize(study)))
    assert "-7.50" in text
    assert "base policy -7.50" in text


@pytest.mark.parametrize(
    ("spread", "places"), [(0.3, 3), (1.0, 3), (33, 1), (0.004, 5), (4e-5, 7), (5000, 0), (0, 3), (float("nan"), 3)]
)
def test_decimals_follow_the_spread(spread, places):
    assert decimals(spread) == places


def test_equal_numbers_are_shown_by_their_size():
    assert decimals_for([0.5, 0.5]) == 3
    assert decimals_for([-2000.0]) == 0
    assert decimals_for([]) == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00432, "0.0043"),
        (0.5, "0.5"),
        (0.999, "1"),
        (3456, "3500"),
        (-0.0123, "-0.012"),
        (12.3, "12"),
        (0, "0"),
        (1e300, "1e+300"),
        (2e-300, "2e-300"),
    ],
)
def test_a_figure_has_two_significant_digits_and_no_exponent_within_reason(value, text):
    assert figure(value) == text


@pytest.mark.parametrize("level", [-7.5, 0.0, 3.0])
def test_a_constant_reward_is_called_one(level):
    groups = tuple(
        Group(
            prompt="A:abcd>", completions=("a", "b"), rewards={"mine": (level,) * 2}, totals=(level,) * 2, truncated=0
        )
        for _ in range(4)
    )
    signal = judge_signal(Preview(groups=groups))
    assert signal.can_learn == "no"
    assert f"every completion gets {level:g}" in signal.sentence


def test_prompts_that_differ_without_a_signal_are_not_called_constant():
    groups = tuple(
        Group(
            prompt="A:abcd>", completions=("a", "b"), rewards={"mine": (level,) * 2}, totals=(level,) * 2, truncated=0
        )
        for level in (-1.0, 1.0)
    )
    assert "the completions of a prompt all get the same" in judge_signal(Preview(groups=groups)).sentence
