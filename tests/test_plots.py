"""Plots and tables, from a stored study whose numbers the test chose."""

import io
import json
from dataclasses import asdict

import optuna
import pytest
from rich.console import Console

from objectives.trial.messages import HeldOutScore, StepMetrics, TrialResult
from sweep.plots.by_rank import by_rank_figure, by_rank_info
from sweep.plots.collapse_axis import CollapseAxisInfo, ProductCollapses, collapse_axis_figure, collapse_axis_info
from sweep.plots.curves import MAX_LINES, MAX_POINTS, curves_figure, curves_info
from sweep.plots.heat import CROSS, heat_figure, heat_info
from sweep.search.schedule import distributions
from sweep.storage import attributes
from sweep.storage.attributes import DESIGN, SEED
from sweep.storage.database import create_or_match_study, open_storage
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from sweep.terminal.tables import study_table, value_strip

POINTS = [(1, 16, 1e-3, 0.40), (1, 32, 2e-3, 0.50), (16, 16, 1e-3, 0.60), (16, 32, 2e-3, 0.70), (16, 64, 4e-3, 0.01)]


STORED = [
    "verdict.design=fixed",
    "search.points_per_rank=2",
    "space.learning_rate=[1e-3, 2e-3, 4e-3]",
    "learner.name=trl",
]
"""How the stored study differs from the shipped one."""


BASE = HeldOutScore(step=0, sampled=0.25, greedy=0.37, prompts=1024, spread=0.43)


def stored_study(folder, points=POINTS, steps=6, more=()):
    """A study as the supervisor stores it; a value below .1 is a collapse."""
    storage = open_storage(f"sqlite:///{folder}/rank-sweep.db", create=True)
    config = load_study("tiny", [*STORED, *more])
    study = create_or_match_study(storage, config, optuna.samplers.RandomSampler())
    study.set_user_attr(attributes.BASELINE, asdict(BASE))
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
        score = HeldOutScore(step=steps, sampled=value, greedy=value + 0.1, prompts=1024, spread=0.43)
        result = TrialResult(
            scores=(score,), steps=steps, pruned=False, tokens=640 * steps, adapter_parameters=100,
            seconds={"train": 1}, base=BASE,
        )  # fmt: skip
        attributes.record_result(trial, result, curve)
        trial.set_user_attr(attributes.COLLAPSED, value < 0.1)
        if value < 0.1:
            trial.set_user_attr(attributes.REASON, "collapsed at step 6 <script>")
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
    assert [trace.name for trace in figure.data if trace.showlegend] == ["0.001", "0.002", "0.004"]
    assert any(annotation.text == "base policy" for annotation in figure.layout.annotations)


def test_heat_maps_hold_means_without_collapsed_trials_and_count_both(summary):
    info = heat_info(summary, "alpha")
    assert (info.ranks, info.levels) == ((1, 16), (16, 32, 64))
    assert info.mean == ((0.4, 0.6), (0.5, 0.7), (None, None))
    assert info.n == ((1, 1), (1, 1), (0, 1))
    assert info.collapsed == ((0, 0), (0, 0), (0, 1))
    grey, colored = heat_figure(info).data
    assert colored.text[1][1] == "0.700<br>n=1"
    assert list(grey.text[2]) == ["", f"n=1<br>1 {CROSS}"]
    assert (grey.z[2][1], grey.z[2][0], grey.z[0][0]) == (1, None, None)


def test_collapse_is_shown_along_alpha_times_learning_rate(summary):
    info = collapse_axis_info(summary)
    assert [(p.product, p.n, p.collapsed) for p in info.products] == [(0.016, 2, 0), (0.064, 2, 0), (0.256, 1, 1)]
    assert info.products[0].by_rank == ((1, 1, 0), (16, 1, 0))
    assert info.limit == 0.35
    assert info.sentence == (
        "None of 4 trials collapsed with alpha x learning rate up to 0.064; from 0.256 on, 1 of 1 did (100%)."
    )
    figure = collapse_axis_figure(info)
    [marks] = figure.data
    assert (marks.y, figure.layout.xaxis.ticktext) == ((0, 0, 1), ("0.016<br>n=2", "0.064<br>n=2", "0.256<br>n=1"))
    # With no collapse in n trials the exact upper bound is 1 - .05 ** (1 / n).
    assert marks.error_y.array[0] == pytest.approx(1 - 0.05**0.5)


@pytest.mark.parametrize(
    ("collapses", "sentence"),
    [
        ([(0.1, 3, 0)], "None of the 3 trials collapsed."),
        ([(0.1, 4, 1), (0.2, 1, 1)], "2 of 5 trials collapsed (40%), the gentlest at a product of 0.1."),
    ],
)
def test_where_collapse_starts_is_said_in_words(collapses, sentence):
    products = tuple(ProductCollapses(product=p, n=n, collapsed=c, by_rank=()) for p, n, c in collapses)
    assert CollapseAxisInfo(products=products, limit=0.35).sentence == sentence


def curve_trial(r, rewards, *, tokens_a_step=10, collapsed=False):
    """A trial that has a curve and nothing else."""
    steps = list(range(1, len(rewards) + 1))
    curve = {"step": steps, "reward": rewards, "tokens": [tokens_a_step * step for step in steps]}
    return optuna.trial.create_trial(
        params={"r": r},
        distributions={"r": optuna.distributions.CategoricalDistribution([1, 4])},
        value=0.5,
        user_attrs={attributes.CURVE: curve, attributes.COLLAPSED: collapsed},
    )


def test_curves_show_each_ranks_median_and_middle_half():
    trials = [curve_trial(1, [0.1, 0.1 + 0.1 * i]) for i in range(5)] + [curve_trial(4, [0.3, 0.9])]
    info = curves_info(trials)
    assert (list(info.ranks), info.window, info.ranks[1].trials) == ([1, 4], 1, 5)
    assert info.ranks[1].x.tolist() == [1, 2]
    assert info.ranks[1].quartiles[:, 1] == pytest.approx([0.2, 0.3, 0.4])
    figure = curves_figure(info)
    assert [trace.name for trace in figure.data if trace.showlegend] == ["r=1", "r=4"]
    assert len([trace for trace in figure.data if trace.fill == "toself"]) == 2
    assert not figure.layout.shapes
    [line] = curves_figure(curves_info(trials, base=0.05)).layout.shapes
    assert (line.y0, line.y1) == (0.05, 0.05)


def test_curves_by_tokens_compare_trials_at_equal_tokens():
    trials = [curve_trial(1, [0.0, 0.2, 0.4]), curve_trial(1, [0.0, 0.4], tokens_a_step=20)]
    info = curves_info(trials, "tokens").ranks[1]
    assert info.x.tolist() == [20, 30]
    # At 20 tokens .2 and 0, at 30 .4 and .2.
    assert info.quartiles[1] == pytest.approx([0.1, 0.3])


def test_a_collapsed_trial_counts_with_its_last_reward_to_the_end():
    info = curves_info([curve_trial(1, [0.5, 0.5, 0.5]), curve_trial(1, [0.2, 0.0], collapsed=True)]).ranks[1]
    assert info.quartiles[1] == pytest.approx([0.35, 0.25, 0.25])
    alone = curves_info([curve_trial(1, [0.2, 0.0], collapsed=True)]).ranks[1]
    assert alone.quartiles[1] == pytest.approx([0.2, 0.0])


def test_curves_stay_small_however_many_trials_and_steps():
    rank = curves_info([curve_trial(1, [0.5] * 1000) for _ in range(50)]).ranks[1]
    assert (len(rank.singles), len(rank.x)) == (MAX_LINES, MAX_POINTS)
    assert (rank.x[0], rank.x[-1]) == (1, 1000)
    assert max(len(trace.x) for trace in curves_figure(curves_info([curve_trial(1, [0.5] * 1000)])).data) <= 200


def test_steps_without_a_finite_reward_are_left_out():
    assert curves_info([curve_trial(1, [0.5, float("nan"), 0.7])]).ranks[1].x.tolist() == [1, 3]
    assert curves_info([curve_trial(1, [float("nan")])]).ranks == {}


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


def test_the_best_of_a_rank_may_have_a_reward_of_zero(tmp_path):
    rewards = summarize(stored_study(tmp_path, points=[(1, 16, 1e-3, -0.5), (1, 32, 2e-3, 0.0)])).ranks[0]
    assert (rewards.best.number, rewards.best.value) == (1, 0.0)


def test_a_trial_that_took_no_time_took_zero_seconds(study):
    trial = study.trials[0]
    trial.datetime_complete = trial.datetime_start
    assert summarize(study, [trial]).trials[0].seconds == 0.0
