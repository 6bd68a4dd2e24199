"""What a person sees while a study runs: on a terminal of 80 and of 120 columns, and as lines."""

import io
import threading

import pytest
from rich.console import Console

from objectives.lora import LoraSpec
from objectives.trial.messages import HeldOutScore, Ready, StepMetrics, TrialSpec
from sweep.live_display import text as progress_text
from sweep.live_display.display import LineProgress, make_progress
from sweep.live_display.live import SPARKS, LiveProgress, sparkline
from sweep.live_display.text import Pace

READY = Ready(baseline=HeldOutScore(step=0, sampled=0.25, greedy=0.37, prompts=1024, spread=0.43), facts={})


def spec(number):
    return TrialSpec(number=number, lora=LoraSpec(r=64, alpha=128), learning_rate=2e-5, seed=1000003)


def step(number, reward):
    return StepMetrics(
        step=number, reward=reward, reward_std=0.1, groups_without_signal=0.0, completion_length=5.0,
        tokens=1000 * number, seconds=0.1,
    )  # fmt: skip


@pytest.fixture
def clock(monkeypatch):
    """Time as the test has it pass."""
    now = [100.0]
    monkeypatch.setattr(progress_text.time, "monotonic", lambda: now[0])
    return now


def drawn(shown, width):
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(shown)
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_rewards_pace_what_each_trial_does_and_the_time_left(width, clock):
    live = LiveProgress(Console(file=io.StringIO(), width=width, force_terminal=True))
    live.begin(done=4, trials=20, steps=250)
    live.ready(READY)
    for number in (11, 12):
        live.trial_started(spec(number))
    live.trials_are("rolling out", [11, 12, 99])
    for k in range(1, 41):
        clock[0] += 0.5
        live.step(spec(11), step(k, k / 100))
    live.trials_are("training", [11])
    shown = drawn(live, width)
    live.end()
    assert max(map(len, shown)) <= width
    assert shown[0].startswith("trials") and "4/20" in shown[0]
    # 39 steps of 1,000 tokens in 19.5 s; 16 trials of 250 steps less 40, at 19.5 s / 40 each.
    assert "2,000 tokens/s" in shown[0] and "32 min left" in shown[0]
    assert "trial 11" in shown[1] and "r=64 alpha=128 rate=2e-05" in shown[1]
    assert "40/250" in shown[1] and "0.400" in shown[1] and shown[1].endswith("training")
    sparks = [character for character in shown[1] if character in SPARKS]
    assert len(sparks) >= (8 if width == 80 else 40) and sparks == sorted(sparks)
    assert shown[2].endswith("rolling out") and "0/250" in shown[2]
    live.trial_ended(spec(11), score=0.5, reason=None)
    assert not any("trial 11" in line for line in drawn(live, width))


@pytest.mark.parametrize(
    "change",
    [
        lambda live: live.trial_started(spec(13), worker=1),
        lambda live: live.trial_ended(spec(11), score=0.5, reason=None),
        lambda live: live.worker_is(2, "loading the model"),
    ],
    ids=["a trial starts", "a trial ends", "a worker comes"],
)
def test_what_changes_while_it_is_drawn_waits_until_it_has_been(change, monkeypatch):
    live = LiveProgress(Console(file=io.StringIO(), width=80, force_terminal=True))
    for number in (11, 12):
        live.trial_started(spec(number))
    live.worker_is(1, "starting")
    changing = threading.Thread(target=change, args=(live,))

    def half_way(pace, steps):
        steps = iter(steps)
        next(steps)
        changing.start()
        changing.join(timeout=0.3)
        return f"{1 + len(list(steps))} running, {len(live._workers)} workers"

    monkeypatch.setattr(Pace, "time_left", half_way)
    text = drawn(live, 80)
    changing.join()
    assert "2 running, 2 workers" in text[0]
    assert sum("trial" in line for line in text[1:]) == 2


def test_a_sparkline_goes_from_the_lowest_to_the_highest():
    assert sparkline([], width=8) == ""
    assert sparkline([1.0, 1.0], width=8) == SPARKS[3] * 2
    assert sparkline([0.0, 0.5, 1.0], width=8) == SPARKS[0] + SPARKS[4] + SPARKS[7]
    assert sparkline(list(range(100)), width=8) == SPARKS


def test_tokens_per_second_are_those_of_late(clock):
    pace = Pace()
    assert pace.tokens_per_second is None
    for k in range(1, 5):
        clock[0] += 100.0 if k == 3 else 10.0
        pace.count(0, step(k, 0.0))
    assert pace.tokens_per_second is None or pace.tokens_per_second == pytest.approx(100.0)


def test_elsewhere_lines_are_printed_and_nothing_moves():
    console = Console(file=io.StringIO(), width=80)
    lines = make_progress(console)
    assert isinstance(lines, LineProgress)
    lines.begin(done=0, trials=1, steps=4)
    lines.ready(READY)
    lines.trial_started(spec(0))
    lines.trials_are("training", [0])
    for k in range(1, 5):
        lines.step(spec(0), step(k, 0.1 * k))
    lines.trial_ended(spec(0), score=0.5, reason=None)
    said = console.file.getvalue()
    assert "step 4/4  reward 0.400" in said and "held-out reward 0.500" in said
    assert "training" not in said
