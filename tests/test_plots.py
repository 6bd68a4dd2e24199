"""Plots and tables, from a stored study whose numbers the test chose."""

import io
import json

import optuna
import pytest
from rich.console import Console

from objectives.trial import HeldOutScore, StepMetrics, TrialResult
from sweep import record
from sweep.plots.by_rank import by_rank_figure, by_rank_info
from sweep.plots.curves import curves_figure, curves_info
from sweep.plots.heat import heat_figure, heat_info
from sweep.report.page import report_html
from sweep.search import DESIGN, SEED, distributions
from sweep.storage import create_or_match_study, open_storage
from sweep.study_file import load_study
from sweep.summary import summarize
from sweep.tables import study_table, value_strip

POINTS = [(1, 16, 1e-3, 0.40), (1, 32, 2e-3, 0.50), (16, 16, 1e-3, 0.60), (16, 32, 2e-3, 0.70), (16, 64, 4e-3, 0.01)]


def stored_study(folder, points=POINTS, steps=6):
    """A study as the supervisor stores it; a value below .1 is a collapse."""
    storage = open_storage(f"sqlite:///{folder}/rank-sweep.db", create=True)
    config = load_study("tiny", ["search.points_per_rank=2", "space.learning_rate=[1e-3, 2e-3, 4e-3]"])
    study = create_or_match_study(storage, config, optuna.samplers.RandomSampler())
    study.set_user_attr(record.BASELINE, {"step": 0, "sampled": 0.25, "greedy": 0.37, "prompts": 64})
    for i, (r, alpha, rate, value) in enumerate(points):
        study.enqueue_trial(
            {"r": r, "alpha": alpha, "learning_rate": rate}, user_attrs={SEED: i} | ({DESIGN: True} if i < 4 else {})
        )
        trial = study.ask(distributions(config.search_space()))
        curve = [
            StepMetrics(
                step=s, reward=value * s / steps, reward_std=0.1, groups_without_signal=0.2, completion_length=5.0,
                tokens=640 * s, seconds=0.2, rewards={"exact": value * s / steps}, reward_stds={"exact": 0.1},
            )
            for s in range(1, steps + 1)
        ]  # fmt: skip
        score = HeldOutScore(step=steps, sampled=value, greedy=value + 0.1, prompts=64)
        result = TrialResult(
            scores=(score,), steps=steps, pruned=False, tokens=640 * steps, adapter_parameters=100, seconds={"train": 1}
        )
        record.record_result(trial, result, curve)
        trial.set_user_attr(record.COLLAPSED, value < 0.1)
        if value < 0.1:
            trial.set_user_attr(record.REASON, "collapsed at step 6 <script>")
        study.tell(trial, value)
    return study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return stored_study(tmp_path_factory.mktemp("plots"))


@pytest.fixture(scope="module")
def summary(study):
    return summarize(study)


def test_by_rank_shows_every_trial_every_mean_and_the_base_policy(summary):
    info = by_rank_info(summary)
    assert len(info.trials) == 5
    assert dict(info.means) == {1: pytest.approx(0.45), 16: pytest.approx(0.65)}
    assert info.baseline == 0.25
    figure = by_rank_figure(info)
    assert sum(len(trace.x) for trace in figure.data) == 5
    assert [trace.marker.symbol for trace in figure.data].count("x") == 1
    assert any(annotation.text == "base policy" for annotation in figure.layout.annotations)


def test_heat_maps_hold_means_with_their_counts_and_leave_untried_cells_empty(summary):
    info = heat_info(summary, "alpha")
    assert (info.ranks, info.levels) == ((1, 16), (16, 32, 64))
    assert info.mean == ((0.4, 0.6), (0.5, 0.7), (None, 0.01))
    assert info.n == ((1, 1), (1, 1), (0, 1))
    assert heat_figure(info).data[0].text[2][0] == ""


def test_curves_are_grouped_by_rank_with_a_median(study):
    info = curves_info(study)
    assert {r: len(curves) for r, curves in info.curves.items()} == {1: 2, 16: 3}
    assert info.median(1)[-1] == pytest.approx(0.45)
    assert [trace.name for trace in curves_figure(info).data if trace.name] == ["r=1", "r=16"]


def test_the_report_escapes_what_users_wrote_and_is_complete_without_a_network(study):
    page = report_html(study, None)
    assert "collapsed at step 6 &lt;script&gt;" in page
    assert "No verdict yet" in page
    assert '<td>1</td><td class="text">exact</td><td>0.450</td><td>0.100</td>' in page
    assert page.count("Plotly.newPlot(") >= 4
    assert len(page) < 8 * 2**20


def test_the_table_says_what_a_reader_must_not_conclude(summary):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(study_table(summary))
    text = console.export_text()
    assert "best: the luckiest trial, not an estimate" in text
    assert "0.450" in text and "0.650" in text


def test_ranks_without_their_share_of_the_design_are_marked(tmp_path):
    summary = summarize(stored_study(tmp_path, points=POINTS[:3]))
    assert {rank.r: rank.tuned for rank in summary.ranks} == {1: True, 16: False}
    assert json.dumps(summary.as_json())


def test_a_strip_marks_each_value_and_the_base_policy():
    strip = value_strip((0.0, 0.5, 0.51, 1.0), top=1.0, baseline=0.25)
    assert strip[0] == "o" and strip[5] == "|" and strip[10] == "8" and strip[19] == "o"
