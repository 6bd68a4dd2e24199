"""What the supervisor makes of what a worker tells it, and a worker's feed of what a learner does."""

import io
from multiprocessing import Pipe

from rich.console import Console

from objectives.errors import PackTooLargeError, UnrewardedError
from objectives.trial.messages import SlotFree, Start
from objectives.worker import ConnectionFeed
from sweep.running.running_trials import NOT_NEEDED
from sweep.search.schedule import SearchSchedule
from sweep.storage import attributes
from sweep.storage.attributes import REDONE, SEED
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from sweep.terminal.tables import study_table
from tests.support.scripted_worker import ScriptedWorker

TOLD = "out of memory with 3 trials at once; 1 from here on"


def sent(number, error):
    """A trial's failure as it reaches the supervisor."""
    ours, theirs = Pipe()
    ConnectionFeed(ours).fail(number, error)
    return theirs.recv()


class Crowded(ScriptedWorker):
    """Finds that it has no memory for the first trials that it was given at once."""

    crowd = ()

    def _round(self):
        if self.crowd or len(self._specs) < self.slots:
            super()._round()
            return
        self.crowd = tuple(self._specs)
        self._specs.clear()
        for number in self.crowd:
            self._out += [sent(number, PackTooLargeError(TOLD)), SlotFree()]


def test_trials_that_a_pack_had_no_memory_for_are_run_again_and_it_is_written_down(supervise):
    config = load_study("tiny", ["space.r=[1, 16]", "search.points_per_rank=3", "search.trials=8", "budget.steps=4"])
    study = supervise(config, Crowded(lambda spec, step: 0.5 + spec.lora.r / 100 + step / 1000))
    failed = [trial for trial in study.trials if trial.state.name == "FAIL"]
    complete = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    assert (len(failed), len(complete), len(study.trials)) == (3, 8, 11)
    assert {trial.user_attrs[attributes.REASON] for trial in failed} == {TOLD}
    assert all(REDONE in trial.user_attrs for trial in failed)
    runs = [(trial.params, trial.user_attrs[SEED]) for trial in complete]
    assert all((trial.params, trial.user_attrs[SEED]) in runs for trial in failed)


def test_a_search_that_ends_within_its_design_compares_no_ranks(supervise):
    design = ["space.r=[1, 16]", "search.points_per_rank=3", "search.trials=2", "budget.steps=2"]
    summary = summarize(supervise(load_study("tiny", design), ScriptedWorker(lambda spec, step: 0.5)))
    console = Console(file=io.StringIO(), width=120)
    console.print(study_table(summary))
    assert "* no rank has been given its whole design, so none is to be compared" in console.file.getvalue()


class Unrewarded(ScriptedWorker):
    """Its first trial ends with a policy that no reward function applies to."""

    told = False

    def _round(self):
        if self.told:
            super()._round()
            return
        self.told = True
        number = next(iter(self._specs))
        del self._specs[number]
        self._out += [sent(number, UnrewardedError("collapsed: no held-out completion has a reward")), SlotFree()]


def test_a_policy_without_any_reward_has_collapsed_and_the_study_goes_on(supervise):
    config = load_study("tiny", ["space.r=[1, 16]", "search.points_per_rank=3", "search.trials=8", "budget.steps=4"])
    study = supervise(config, Unrewarded(lambda spec, step: 0.5 + spec.lora.r / 100 + step / 1000))
    states = [trial.state.name for trial in study.trials]
    assert (states.count("FAIL"), states.count("COMPLETE"), len(states)) == (1, 7, 8)
    [failed] = [trial for trial in study.trials if trial.state.name == "FAIL"]
    assert failed.user_attrs[attributes.COLLAPSED] is True
    assert REDONE not in failed.user_attrs


class FirstIsAhead(ScriptedWorker):
    """Its first trial has fewer steps left than those beside it."""

    def send(self, k, message):
        super().send(k, message)
        if isinstance(message, Start) and message.spec.number == 0:
            self._steps[0] = 5


class UntilOneHasEnded(SearchSchedule):
    """Wants its trials until the first has ended, and no more after that."""

    ended = False

    def needs(self, spec):
        return not self.ended


def test_trials_that_nobody_needs_any_more_end_at_their_next_step_with_the_reason(supervise):
    config = load_study("tiny", ["space.r=[1, 16]", "search.points_per_rank=3", "search.trials=3", "budget.steps=8"])
    schedule = UntilOneHasEnded(config)
    worker = FirstIsAhead(lambda spec, step: 0.5 + step / 1000)
    study = supervise(config, worker, schedule=schedule, after_trial=lambda: setattr(schedule, "ended", True))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "PRUNED"]
    for trial in study.trials[1:]:
        assert trial.user_attrs[attributes.REASON] == NOT_NEEDED
        assert trial.user_attrs[attributes.ENDED_EARLY]
        assert trial.user_attrs[attributes.SCORES][-1]["step"] < 8
