"""How the best learning rate moves with rank, as the report has it."""

import itertools
import math

import pytest

from sweep.plots.best_rate import best_rate_figure, best_rate_info
from sweep.storage.summary import summarize
from tests.test_plots import POINTS, stored_study


def score(r, alpha, rate):
    """Best at 2e-3 with r=4 and alpha=32, and below that at higher ranks."""
    off = math.log2(rate / 2e-3) + 0.25 * math.log2(r / 4) + 0.5 * math.log2(alpha / 32)
    return 0.6 - 0.03 * off**2


GRID = [(r, a, rate, score(r, a, rate)) for r, a, rate in itertools.product((1, 16), (16, 32, 64), (1e-3, 2e-3, 4e-3))]


def test_the_report_has_slopes_a_figure_and_a_sentence(tmp_path):
    info = best_rate_info(summarize(stored_study(tmp_path, points=[*GRID, (16, 64, 4e-3, 0.01)])))
    assert info.sentence == (
        "The best learning rate goes as r^-0.25 with alpha fixed (95 % interval -0.25 to -0.25), as r^-0.75 with alpha "
        "proportional to r (95 % interval -0.75 to -0.75)."
    )
    assert list(info.tried) == [1, 16] and list(info.tried[1]) == [1e-3, 2e-3, 4e-3]
    figure = best_rate_figure(info)
    assert [trace.name for trace in figure.data if trace.mode == "lines" and trace.name] == [
        "alpha fixed",
        "alpha proportional to r",
    ]
    marks = [trace for trace in figure.data if trace.mode == "markers"]
    assert [list(trace.marker.symbol).count("diamond") for trace in marks] == [1, 1]


def test_points_that_do_not_say_it_are_drawn_and_the_reason_is_said(tmp_path):
    info = best_rate_info(summarize(stored_study(tmp_path, points=POINTS)))
    assert info.sentence == (
        "How the best learning rate moves with rank is not known: 4 trials that did not collapse are too few, or too "
        "much alike, for a fit; a design of more points (search.points_per_rank) would tell."
    )
    assert len(best_rate_figure(info).data) == 2


@pytest.mark.parametrize("value", [0.4, 0.5, 1.0])
def test_scores_that_are_all_alike_are_drawn(tmp_path, value):
    points = [(r, a, rate, value) for r, a, rate, _ in GRID]
    info = best_rate_info(summarize(stored_study(tmp_path, points=points)))
    assert "is not known" in info.sentence
    assert len(best_rate_figure(info).data) == 2


def test_rslora_is_named(tmp_path):
    study = stored_study(tmp_path, points=GRID, more=["space.use_rslora=[true]"])
    assert best_rate_info(summarize(study)).sentence.startswith("Under rsLoRA, the best learning rate goes as r^")


def test_two_scalings_are_not_thrown_together(tmp_path):
    study = stored_study(tmp_path, points=[], more=["space.use_rslora=[false, true]"])
    assert "two scalings" in best_rate_info(summarize(study)).sentence


def test_sets_of_modules_are_not_thrown_together(tmp_path):
    study = stored_study(tmp_path, points=[], more=['space.target_modules=["attention", "mlp"]'])
    assert best_rate_info(summarize(study)).sentence == (
        "How the best learning rate moves with rank is not known: trials are of 2 sets of target modules."
    )
