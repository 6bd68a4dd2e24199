"""Full fine-tuning as a line to compare ranks with: the policy without an adapter, and what is told of it."""

import csv
import io
import json
from dataclasses import asdict, replace

import optuna
import pytest
import torch
from optuna.trial import TrialState

from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Sampling
from objectives.engines.transformers import LiveEngine
from objectives.errors import PolicyError
from objectives.lora import LoraSpec
from objectives.policies.whole import WholePolicy
from objectives.trial.messages import HeldOutScore
from sweep.confirmation.naming import family
from sweep.errors import StudyFileError
from sweep.plots.by_rank import by_rank_figure, by_rank_info
from sweep.results import load_results
from sweep.running import reference as running
from sweep.running.reference import RATES, ReferenceSchedule, without_adapters
from sweep.storage.attributes import COLLAPSED, DROPPED, SCORES, SEED
from sweep.storage.reference import read_reference, reference_name
from sweep.storage.summary import summarize
from sweep.study.reading import load_study
from tests.support.command import SMALL, sweep
from tests.test_plots import stored_study

PROMPT = [3, 4, 5, 6, 7]
GREEDY = Sampling(temperature=0.0, max_tokens=5)


@pytest.fixture
def whole(tiny):
    policy = WholePolicy(tiny.model_copy(update={"policy": "whole"}))
    yield policy
    policy.release()


def train(model):
    """A few large steps away from what the base says."""
    ids = torch.tensor([PROMPT + [8] * 5])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(20):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    return optimizer


def test_all_weights_are_trained_and_put_back_to_the_bit(whole):
    before = {name: weight.clone() for name, weight in whole.base.state_dict().items()}
    model = whole.build(None, seed=0)
    train(model)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert any(not torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    whole.release()
    after = whole.base.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in whole.base.parameters())


def test_an_adapter_and_a_whole_model_are_not_mixed_up(whole, peft_policy):
    with pytest.raises(PolicyError, match="without an adapter; got r=4"):
        whole.build(LoraSpec(r=4, alpha=8), seed=0)
    with pytest.raises(PolicyError, match=r"takes model\.policy = 'whole'"):
        peft_policy.build(None, seed=0)


def test_the_engine_samples_from_what_is_trained_and_the_base_from_the_base(whole, tiny, tmp_path):
    engine = LiveEngine(whole._settings, live=whole.base)
    adapters = AdapterFolder(tmp_path)
    [of_base] = engine.rollout([PROMPT], [None], GREEDY, [0])
    model = whole.build(None, seed=0).train()
    [untrained] = engine.rollout([PROMPT], [adapters.publish("trial", whole.served(), 0)], GREEDY, [0])
    train(model)
    version = adapters.publish("trial", whole.served(), 0)
    [trained, base] = engine.rollout([PROMPT, PROMPT], [version, None], GREEDY, [0, 0])
    assert untrained.token_ids == base.token_ids == of_base.token_ids
    assert trained.token_ids == (8,) * 5
    assert model.training


@pytest.fixture
def searched(tmp_path):
    """A search, and the reference of its own: two rates, two seeds, one trial of which collapsed."""
    search = stored_study(tmp_path)
    url = f"sqlite:///{tmp_path}/rank-sweep.db"
    study = optuna.create_study(study_name=reference_name("tiny"), storage=url, direction="maximize")
    config = load_study("tiny")
    study.set_user_attr("config", without_adapters(config).model_dump(mode="json"))
    for rate, value in ((1e-4, 0.5), (3e-4, 0.7), (1e-4, 0.6), (3e-4, 0.1)):
        study.enqueue_trial({"learning_rate": rate}, user_attrs={SEED: 0})
        trial = study.ask({"learning_rate": RATES})
        score = HeldOutScore(step=6, sampled=value, greedy=None, prompts=64)
        trial.set_user_attr(SCORES, [asdict(score)])
        trial.set_user_attr(COLLAPSED, value < 0.2)
        # As a collapse is told: its value is then the last reward of a step.
        trial.report(0.0 if value < 0.2 else value, 6)
        study.tell(trial, **({"state": TrialState.PRUNED} if value < 0.2 else {"values": value}))
    return search, url


def test_its_best_rate_is_that_of_the_best_mean(searched):
    reference = read_reference(searched[0])
    assert [(rate.learning_rate, rate.values, rate.collapsed) for rate in reference.rates] == [
        (1e-4, (0.5, 0.6), 0),
        (3e-4, (0.7, 0.1), 1),
    ]
    assert reference.best.learning_rate == 1e-4
    assert reference.sentence(3) == "full fine-tuning: 0.550 at 0.0001, the best of 2 rates (2 seeds, sd 0.071)"


def test_tables_plots_and_frames_hold_it(searched, tmp_path):
    search, url = searched
    summary = summarize(search)
    assert summary.as_json()["reference"][1]["values"] == [0.7, 0.1]
    figure = by_rank_figure(by_rank_info(summary))
    line = next(shape for shape in figure.layout.shapes if shape.y0 == pytest.approx(0.55))
    assert line.y1 == line.y0
    assert "full fine-tuning" in {mark.text for mark in figure.layout.annotations}
    assert len(by_rank_figure(by_rank_info(replace(summary, reference=None))).layout.annotations) == 1
    trials = load_results(url).trials
    assert set(trials.study) == {"tiny"}
    assert sorted(trials[trials.phase == "reference"].learning_rate) == [1e-4, 1e-4, 3e-4, 3e-4]
    assert family(search)[-1] == "tiny.reference"
    shown = sweep("show", "tiny", "--storage", url, cwd=tmp_path)
    assert "full fine-tuning: 0.55" in shown.stdout


def test_its_trials_are_listed_by_a_mark_of_their_own(searched, tmp_path):
    listed = sweep("trials", "tiny", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in listed if " f" in line[:3]] == ["f0", "f1", "f2", "f3"]
    assert "reference/" not in "".join(listed)
    assert max(map(len, listed)) <= 80
    without = sweep("trials", "tiny", "--phase", "search", cwd=tmp_path).stdout.splitlines()
    head, own = (next(line for line in lines if "trial" in line) for lines in (listed, without))
    assert head.index("state") == own.index("state"), "the mark takes no room from reasons"
    only = json.loads(sweep("trials", "tiny", "--phase", "reference", "--json", cwd=tmp_path).stdout)
    assert [(trial["phase"], trial["r"], trial["learning_rate"]) for trial in only] == [
        ("reference", None, rate) for rate in (1e-4, 3e-4, 1e-4, 3e-4)
    ]


def test_whole_numbers_stay_whole_beside_trials_that_have_none(searched, tmp_path):
    counted = ("r", "alpha", "seed", "steps", "tokens", "adapter_parameters")
    told = json.loads(sweep("trials", "tiny", "--json", cwd=tmp_path).stdout)
    assert [{name: type(trial[name]) for name in counted} for trial in told] == [
        *[dict.fromkeys(counted, int)] * 5,
        *[dict.fromkeys(counted, type(None)) | {"seed": int}] * 4,
    ]
    rows = list(csv.DictReader(io.StringIO(sweep("trials", "tiny", "--csv", cwd=tmp_path).stdout)))
    assert [row["r"] for row in rows] == ["1", "1", "16", "16", "16", "", "", "", ""]


def test_what_is_held_is_not_run_again():
    study = optuna.create_study()
    first = ReferenceSchedule([1e-4, 1e-3], seeds=range(7, 9))
    first.queue(study)
    queued = [(t.system_attrs["fixed_params"]["learning_rate"], t.user_attrs["seed"]) for t in study.trials]
    assert queued == [(1e-4, 7), (1e-3, 7), (1e-4, 8), (1e-3, 8)]
    again = ReferenceSchedule([1e-4, 5e-4], seeds=range(7, 9))
    again.queue(study)
    assert (len(study.trials), again.trials) == (6, 6)
    assert again.next_trial(study).params == {"learning_rate": 1e-4}


def test_the_objective_stays_and_what_cannot_be_done_is_refused(monkeypatch):
    packed = load_study("tiny", ["learner.name=packed", "learner.loss_type=dr_grpo", "learner.temperature=0.7"])
    whole = without_adapters(packed)
    assert (whole.learner.name, whole.learner.loss_type, whole.learner.temperature) == ("trl", "dr_grpo", 0.7)
    assert (whole.model.policy, whole.model.engine, whole.model.dtype) == ("whole", "transformers", "float32")
    # What is said of adapters, search and verdict may change: a study that is extended keeps its reference.
    longer = load_study("tiny", ["learner.name=packed", "space.r=[1,2,4]", "verdict.seeds=5", "run.workers=2"])
    kept = load_study("tiny", ["learner.name=packed"])
    assert without_adapters(longer) == without_adapters(kept)
    assert without_adapters(longer).run.workers == 1
    refused = {
        "learner.beta=0.1": "learner.beta=0.1 needs the base policy",
        "model.load_in_4bit=true": "of a base in 4 bits",
        "learner.algorithm=rloo": "needs name = 'packed'",
    }
    for override, told in refused.items():
        with pytest.raises(StudyFileError, match=told):
            without_adapters(load_study("tiny", ["learner.name=packed", override]))
    with pytest.raises(StudyFileError, match=r"got learner\.name = 'dpo'"):
        without_adapters(load_study("tiny_preferences"))
    monkeypatch.setattr(running, "total_memory", lambda: 1_000_000)
    with pytest.raises(StudyFileError, match="It is for models small enough"):
        without_adapters(packed)


def test_a_study_that_somebody_writes_has_adapters():
    with pytest.raises(StudyFileError, match="there are no ranks: `sweep reference` sets it"):
        load_study("tiny", ["model.policy=whole"])


def test_a_trial_that_failed_is_tried_again_and_one_that_was_dropped_is_not():
    study = optuna.create_study()
    first = ReferenceSchedule([1e-4], seeds=range(3))
    first.queue(study)
    for dropped in (False, True):
        trial = study.ask({"learning_rate": RATES})
        if dropped:
            trial.set_user_attr(DROPPED, True)
        study.tell(trial, state=TrialState.FAIL)
    again = ReferenceSchedule([1e-4], seeds=range(3))
    again.queue(study)
    waiting = [t.user_attrs[SEED] for t in study.trials if t.state == TrialState.WAITING]
    assert (waiting, again.trials) == ([2, 0], 4)


def test_a_study_that_is_only_called_so_is_a_study(tmp_path):
    stored_study(tmp_path)
    stored_study(tmp_path, more=["study.name=tiny.reference"])
    url = f"sqlite:///{tmp_path}/rank-sweep.db"
    search = optuna.load_study(study_name="tiny", storage=url)
    assert read_reference(search) is None
    assert set(load_results(url).trials.study) == {"tiny", "tiny.reference"}


@pytest.mark.parametrize("command", [["show"], ["report"], ["trials"], ["export", "-o", "x"], ["add", "r=4"]])
def test_the_reference_itself_is_not_taken_for_a_study_of_ranks(command, searched, tmp_path):
    name, *rest = command
    done = sweep(name, "tiny.reference", *rest, "--storage", searched[1], cwd=tmp_path)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "holds full fine-tuning beside 'tiny': name that one" in done.stderr


@pytest.mark.parametrize("rate", ["nan", "inf", "0", "-1"])
def test_what_is_no_rate_is_refused_in_one_line(rate, tmp_path):
    refused = sweep("reference", "tiny", "--learning-rate", rate, cwd=tmp_path)
    assert (refused.returncode, refused.stderr) == (
        2,
        f"sweep: --learning-rate {float(rate):g}; allowed: 1e-12 to 1\n",
    )


@pytest.mark.long
def test_the_command_trains_all_weights_beside_a_search(tmp_path):
    small = [*SMALL, "--set", "space.r=[1,4]", "--set", "search.points_per_rank=1", "--set", "search.trials=2"]
    refused = sweep("reference", "tiny", *small, cwd=tmp_path)
    assert refused.returncode == 4
    assert sweep("run", "tiny", *small, cwd=tmp_path).returncode == 0
    done = sweep("reference", "tiny", *small, "--seeds", 2, "--learning-rate", "3e-4", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all weights learning rate=0.0003 seed=1000000" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("full fine-tuning: 0.")
    again = sweep("reference", "tiny", *small, "--seeds", 2, "--learning-rate", "3e-4", cwd=tmp_path)
    assert "2 done" in again.stdout
    [rate] = json.loads(sweep("show", "tiny", "--json", cwd=tmp_path).stdout)["reference"]
    assert len(rate["values"]) == 2
    refused = sweep("run", "tiny", *small, "--set", "model.policy=whole", "--set", "study.name=w", cwd=tmp_path)
    assert refused.returncode == 2
    assert "sweep reference" in refused.stderr
