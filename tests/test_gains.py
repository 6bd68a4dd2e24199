"""The figure of the whole argument: gains by rank, and the gain that counts as good as the best."""

from dataclasses import replace

import pytest

from sweep.html_report.contents import read_report
from sweep.plots.gains import gains_figure, gains_info
from tests.test_confirm import POINTS
from tests.test_plots import BASE, stored_study
from tests.test_report import confirm_study


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gains")
    study = stored_study(folder, points=POINTS)
    confirm_study(folder)
    return read_report(study)


def told(confirmed, **changes):
    """The same confirmation under another verdict."""
    return gains_info(replace(confirmed, verdict=replace(confirmed.verdict, **changes)))


def lines(figure):
    """Each line's height, by its name in the legend."""
    return {trace.name: trace.y[0] for trace in figure.data if trace.mode == "lines"}


def test_gains_are_over_the_base_policy_with_each_ranks_interval(report):
    info = report.gains
    # Means of .42, .60 and .605 over ten seeds.
    assert [(rank.r, rank.seeds) for rank in info.ranks] == [(1, 10), (4, 10), (16, 10)]
    assert [rank.gain for rank in info.ranks] == pytest.approx([0.17, 0.35, 0.355], abs=2e-3)
    assert all(rank.lower < rank.gain < rank.upper for rank in info.ranks)
    assert [rank.kept for rank in info.ranks] == pytest.approx([rank.gain / info.ranks[2].gain for rank in info.ranks])


def test_the_line_is_the_declared_share_of_the_best_gain(report):
    info = report.gains
    assert (info.answer, info.rule) == (4, "85 % of the best gain")
    assert info.needed == pytest.approx(0.85 * info.ranks[2].gain)
    figure = gains_figure(info)
    assert lines(figure) == {"base policy": 0.0, info.rule: info.needed}
    [mark] = figure.layout.annotations
    assert mark.text == "<b>r*</b>"
    assert figure.layout.xaxis.ticktext[mark.x] == "4"


def test_with_a_tolerance_the_line_is_so_far_below_the_best_gain(report):
    info = told(report.evidence.confirmed, keep=None, tolerance=0.05)
    assert (info.needed, info.rule) == (pytest.approx(info.ranks[2].gain - 0.05), "the best gain less 0.05")


def test_without_a_gain_there_is_no_share_to_draw(report):
    verdict = report.evidence.confirmed.verdict
    lost = tuple(replace(rank, gain=-0.1, kept=None) for rank in verdict.per_rank)
    info = told(report.evidence.confirmed, per_rank=lost, r=None)
    assert info.needed is None
    assert lines(gains_figure(info)) == {"base policy": 0.0}
    assert not gains_figure(info).layout.annotations


def test_a_rank_that_left_the_ladder_is_hollow_and_sets_no_standard(report):
    *lower, top = report.evidence.confirmed.verdict.per_rank
    info = told(report.evidence.confirmed, per_rank=(*lower, replace(top, judged=False)))
    assert info.needed == pytest.approx(0.85 * info.ranks[1].gain)
    assert [trace.marker.symbol for trace in gains_figure(info).data if trace.mode == "markers"] == [
        "diamond",
        "diamond",
        "diamond-open",
    ]


def test_without_the_base_policys_scores_there_is_no_such_figure(report):
    verdict = report.evidence.confirmed.verdict
    unknown = tuple(replace(rank, gain=None) for rank in verdict.per_rank)
    assert told(report.evidence.confirmed, per_rank=unknown) is None


@pytest.mark.parametrize("name", ["confirmed", "by-rank", "winners-curse", "pareto-memory-bytes"])
def test_plots_of_reward_have_the_base_policy_as_a_line(name, report):
    shapes = report.figures()[name].layout.shapes
    assert any(shape.y0 == shape.y1 == pytest.approx(BASE.sampled, abs=2e-3) for shape in shapes)
