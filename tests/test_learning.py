"""A search that learns nothing says so at the end of its design, not after a confirmation."""

import io
import json

import optuna
import pytest
from rich.console import Console

from sweep.answer.learning import DesignWatch, unlearned_warning
from sweep.running.supervisor import Supervisor
from sweep.search.schedule import SearchSchedule, make_sampler
from sweep.storage.database import create_or_match_study
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from tests.support.command import SMALL, sweep
from tests.support.scripted_worker import BASELINE, SPREAD, ScriptedWorker
from tests.test_invariance import MAPS

OVERRIDES = ["space.r=[1, 16]", "search.points_per_rank=3", "budget.steps=4", "study.name=watched"]
CONFIG = load_study("tiny", [*OVERRIDES, "search.trials=9"])
NOISE = 2 * SPREAD * (2 / 1024) ** 0.5
"""What two scores on 1,024 prompts may differ by."""


def watched(monkeypatch, reward, units=(1, 0), *, config=CONFIG, at_end=False):
    """Runs a search under watch; it, and what was said with how many trials ended by then."""
    study = create_or_match_study(optuna.storages.InMemoryStorage(), config, make_sampler(design_size=6, seed=0))
    told = []

    class Said(io.StringIO):
        def write(self, text):
            told.append((sum(trial.state.is_finished() for trial in study.trials), text))
            return len(text)

    watch = DesignWatch(study, Console(file=Said(), width=10_000))
    from sweep.live_display.display import LineProgress

    logs = config.code_folders[0] / "nowhere"
    Supervisor(
        study, config, SearchSchedule(config),
        workers=ScriptedWorker(reward, units=units, slots=1)(config.worker_settings(logs), logs), log_folder=logs,
        progress=LineProgress(Console(file=io.StringIO())), after_trial=watch.look,
    ).run()  # fmt: skip
    if at_end:
        watch.say(summarize(study))
    return study, [(ended, text.strip()) for ended, text in told if text.strip()]


@pytest.mark.parametrize("units", MAPS, ids=str)
def test_a_design_without_a_gain_is_warned_about_once_as_soon_as_it_has_ended(units, monkeypatch):
    study, told = watched(monkeypatch, lambda spec, step: BASELINE - 0.02 + 0.001 * spec.number, units)
    [(ended, text)] = told
    assert ended == 6
    assert text.startswith("warning: no trial so far has gained over the base policy")
    assert "the best of 6 has" in text
    assert "the best of 9 has" in unlearned_warning(summarize(study))


@pytest.mark.parametrize(("trials", "times"), [(6, 1), (9, 2)])
def test_a_search_that_ends_with_its_design_is_warned_about_once(trials, times, monkeypatch):
    config = load_study("tiny", [*OVERRIDES, f"search.trials={trials}"])
    _, told = watched(monkeypatch, lambda spec, step: BASELINE - 0.02, config=config, at_end=True)
    assert [text.split(" over")[0] for _, text in told] == ["warning: no trial so far has gained"] * times


@pytest.mark.parametrize("level", [0.0, -7.5])
def test_a_constant_reward_teaches_nothing(level, monkeypatch):
    study, told = watched(monkeypatch, lambda spec, step: 0.0, (0.0, level))
    assert len(told) == 1
    assert "the best of 6 has 0. As far" in told[0][1]
    assert study.trials[0].user_attrs["collapsed"] is False


def test_the_last_places_of_a_constant_reward_are_no_gain(monkeypatch):
    study, told = watched(monkeypatch, lambda spec, step: 2.0, (1e-14, 100.1))
    assert max(trial.value for trial in study.trials) > 100.1
    assert [text.split(",")[0] for _, text in told] == [
        "warning: no trial so far has gained over the base policy: the best of 6 has 0"
    ]


def test_one_trial_of_the_design_that_learned_is_enough(monkeypatch):
    study, told = watched(monkeypatch, lambda spec, step: BASELINE + (0.02 + 2 * NOISE if spec.number == 4 else -0.02))
    assert told == []
    assert unlearned_warning(summarize(study)) == ""


def test_a_gain_that_only_tpe_finds_does_not_take_the_warning_back(monkeypatch):
    study, told = watched(monkeypatch, lambda spec, step: BASELINE + (0.3 if spec.number > 5 else -0.02))
    assert len(told) == 1
    assert unlearned_warning(summarize(study)) == "", "in the end something was learned"


SHIFTED = """
def shifted(completions, answer, **columns):
    \"\"\"Rewards of plus and minus one, as many people give them, moved so that the base policy is near zero.\"\"\"
    return [100 * ((1.0 if completion == right else -1.0) + 0.46) for completion, right in zip(completions, answer)]
"""


@pytest.mark.long
def test_a_study_that_learns_nothing_is_told_so_from_the_first_command_to_the_last(tmp_path):
    (tmp_path / "mine.py").write_text(SHIFTED)
    small = [
        *SMALL, "--set", "space.r=[1,64]", "--set", "space.alpha=[32]", "--set", "space.learning_rate=[1e-9,2e-9,4e-9]",
        "--set", "search.points_per_rank=3", "--set", "budget.steps=2", "--set", "task.reward=['mine:shifted']",
    ]  # fmt: skip
    tried = sweep("try-reward", "tiny", *small, cwd=tmp_path)
    assert "can judge a best gain of" in " ".join(tried.stdout.split())
    ran = sweep("run", "tiny", "--trials", 6, *small, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "warning: no trial so far has gained over the base policy" in " ".join(ran.stdout.split())
    done = sweep("confirm", "tiny", "--seeds", 9, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing learned (95 % confidence, 3 seeds)" in done.stdout
    assert "Given up after 3 of at most 14 seeds" in done.stdout
    assert "calls to paste" not in done.stdout
    shown = json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)
    assert shown["verdict"]["outcome"] == "nothing_learned"
    assert not any(trial["collapsed"] for trial in shown["trials"])
    assert all(rank["collapsed"] == 0 and rank["n_seeds"] == 3 for rank in shown["verdict"]["per_rank"])
