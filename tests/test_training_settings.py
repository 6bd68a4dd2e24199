"""Settings that people train with, from the study file to both learners: asked for, obeyed, or refused by name."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest

from objectives.errors import PolicyError
from objectives.learners.packed.learner import PackedLearner
from objectives.learners.trl import TrlLearner
from objectives.learners.trl_objective import check_objective, objective_arguments
from objectives.settings.learner import TrlSettings
from sweep.answer.paste import paste_calls
from sweep.errors import StudyFileError
from sweep.preflight.checks import check_study
from sweep.running.calibration import largest_trial
from sweep.study.reading import load_study
from tests.support.packed_trials import Engine, Feed, learners, spec

LEARNERS = {"trl": TrlLearner, "packed": PackedLearner}
GSPO = {"loss_type": "grpo", "importance_sampling_level": "sequence"}


@pytest.fixture
def make(tiny, unsloth_policy, vllm_engine, tmp_path):
    return learners(model=tiny, policy=unsloth_policy, vllm_engine=vllm_engine, folder=tmp_path)


@pytest.mark.parametrize("learner", LEARNERS)
def test_rollouts_and_scores_are_sampled_as_the_study_says(make, learner):
    said = {"top_p": 0.9, "top_k": 20, "min_p": 0.01, "repetition_penalty": 1.1, "stop": ["c"]}
    made = make(LEARNERS[learner], steps=1, **said)
    feed = Feed(replace(spec(0), score_after=()))
    made.serve(feed)
    assert not feed.failures
    training, *scores = [sampling for _, _, sampling, _ in made.engine.calls]
    expected = {**said, "stop": ("c",), "temperature": 1.0}
    assert {name: getattr(training, name) for name in expected} == expected
    # The trial's and the base policy's score, each sampled and greedy.
    assert [sampling.temperature for sampling in scores] == [1.0, 0.0, 1.0, 0.0]
    assert all({name: getattr(s, name) for name in said} == {**said, "stop": ("c",)} for s in scores)


class Cutting(Engine):
    """Says of the first half of every training rollout, or of all of it, that it was cut."""

    def __init__(self, engine, *, whole):
        super().__init__(engine)
        self.whole = whole

    def answer(self, prompts, adapters, sampling, seeds):
        completions = super().answer(prompts, adapters, sampling, seeds)
        end = len(completions) if self.whole else len(completions) // 2
        return [replace(c, truncated=i < end) for i, c in enumerate(completions)]


@pytest.mark.parametrize("learner", LEARNERS)
def test_what_was_cut_is_not_learned_from_where_the_study_says_so(make, vllm_engine, learner):
    def first(*, whole, mask):
        feed = Feed(spec(0))
        engine = Cutting(vllm_engine, whole=whole)
        make(LEARNERS[learner], steps=1, engine=engine, mask_truncated_completions=mask).serve(feed)
        assert not feed.failures
        return feed.of(0)[0]

    all_masked, half, none = first(whole=True, mask=True), first(whole=False, mask=True), first(whole=True, mask=False)
    assert (all_masked.loss, all_masked.grad_norm) == (0, 0)
    assert half.grad_norm > 0
    assert none.grad_norm > 0
    assert half.grad_norm != pytest.approx(none.grad_norm, rel=1e-3)
    # What is reported of the rollout is of all of it.
    for name in ("reward", "completion_length", "tokens"):
        assert getattr(all_masked, name) == getattr(none, name) > 0


def test_learners_agree_on_a_rollout_that_was_cut_in_part(make, vllm_engine):
    feeds = {}
    for name, kind in LEARNERS.items():
        feeds[name] = Feed(spec(0))
        engine = Cutting(vllm_engine, whole=False)
        made = make(kind, steps=1, engine=engine, mask_truncated_completions=True, weight_decay=0.1, adam_beta2=0.99)
        made.serve(feeds[name])
    ours, right = feeds["packed"].of(0)[0], feeds["trl"].of(0)[0]
    assert ours.loss == pytest.approx(right.loss, abs=1e-5)
    assert ours.grad_norm == pytest.approx(right.grad_norm, rel=1e-3)
    assert ours.completion_length == pytest.approx(right.completion_length)


def test_every_field_of_the_objective_is_stated_to_TRL(make):
    said = {
        "loss_type": "dr_grpo", "epsilon_high": 0.28, "delta": 4.0, "weight_decay": 0.01, "adam_beta1": 0.8,
        "adam_beta2": 0.99, "lr_scheduler_type": "cosine_with_min_lr", "min_lr_rate": 0.1, "warmup_ratio": 0.1,
        "optim": "adamw_8bit",
    }  # fmt: skip
    made = make(TrlLearner, **said)
    arguments = made._arguments(spec(0), "folder")
    check_objective(objective_arguments(TrlSettings(**said)), arguments)
    assert (arguments.epsilon_high, arguments.scale_rewards, arguments.warmup_steps) == (0.28, "group", 0.1)
    plain = make(TrlLearner)._arguments(spec(0), "folder")
    # None of these may be unset: Unsloth fills in what is.
    assert (plain.epsilon_high, plain.mask_truncated_completions, plain.weight_decay) == (0.2, False, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("weight_decay", 0.001), ("epsilon_high", 0.28), ("mask_truncated_completions", True), ("scale_rewards", "none")],
)
def test_a_trainer_that_goes_by_something_else_fails_its_trial_by_name(make, monkeypatch, field, value):
    from objectives.learners import trl

    def rewriting(**keywords):
        made = trl_trainer(**keywords)
        setattr(made.args, field, value)
        return made

    trl_trainer = trl.GRPOTrainer
    monkeypatch.setattr(trl, "GRPOTrainer", rewriting)
    feed = Feed(spec(0))
    make(TrlLearner, steps=1).serve(feed)
    assert isinstance(feed.failures[0], PolicyError)
    assert f"{field}={value!r} instead of" in str(feed.failures[0])


def test_dropout_is_a_function_of_the_trials_seed_and_is_left_out_of_rollouts(make):
    def trained(number, dropout, seed=0):
        made = spec(number, seed=seed)
        feed = Feed(replace(made, lora=replace(made.lora, dropout=dropout)))
        make(TrlLearner, steps=2).serve(feed)
        assert not feed.failures
        return feed.of(number)

    plain, dropped, again, other = trained(0, 0.0), trained(1, 0.3), trained(2, 0.3), trained(3, 0.3, seed=3)
    assert dropped[0].reward == plain[0].reward  # the same rollout: an adapter is served whole, and starts at nothing
    assert dropped[0].grad_norm != pytest.approx(plain[0].grad_norm, rel=1e-3)
    assert [m.grad_norm for m in dropped] == pytest.approx([m.grad_norm for m in again], rel=1e-4)
    assert other[0].grad_norm != pytest.approx(dropped[0].grad_norm, rel=1e-3)


@pytest.mark.parametrize(
    ("said", "pasted"),
    [
        ([], ""),
        (["importance_sampling_level=sequence", "loss_type=grpo"],
         "# The study trained with these arguments of TRL's GRPOConfig: loss_type=\"grpo\", "
         "importance_sampling_level=\"sequence\""),
        (["loss_type=cispo", "epsilon_high=5", "entropy_coef=0.01"],
         "# The study trained with these arguments of TRL's GRPOConfig: loss_type=\"cispo\", epsilon_high=5.0, "
         "entropy_coef=0.01"),
        (["algorithm=rloo"], "# The study trained by RLOO; in TRL that is RLOOTrainer, not GRPOTrainer."),
        (["algorithm=reinforce_plus_plus"], "# The study trained by REINFORCE++, dapo loss; TRL does not have it."),
    ],
)  # fmt: skip
def test_what_is_pasted_says_the_objective_where_it_is_another(said, pasted):
    config = load_study("tiny", [f"learner.{each}" for each in said])
    assert paste_calls(config, r=4, alpha=8).rpartition("\n)")[2].strip() == pasted


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("said", [GSPO, {"loss_type": "cispo", "epsilon_high": 5.0}])
def test_both_learners_train_by_gspo_and_cispo(make, learner, said):
    feed = Feed(spec(0))
    make(LEARNERS[learner], steps=2, num_iterations=2, **said).serve(feed)
    assert not feed.failures
    assert feed.of(0)[0].grad_norm > 0 and feed.of(0)[0].clip_ratio == 0


def test_a_studys_trials_have_its_dropout():
    config = load_study("tiny", ["learner.name=trl", "model.lora_dropout=0.1"])
    assert largest_trial(config).lora.dropout == 0.1
    assert "lora_dropout=0.1," in paste_calls(config, r=4, alpha=8)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lora_dropout=1", "lora_dropout.*less than 1"),
        ("bias=lora_only", "bias: vLLM serves no adapters with biases.*allowed: 'none' .given: 'lora_only'"),
        ("use_dora=true", "use_dora: vLLM serves no DoRA adapters.*allowed: false .given: True"),
    ],
)
def test_adapters_that_no_engine_serves_or_no_pack_trains_are_refused_with_the_reason(override, message):
    with pytest.raises(StudyFileError, match=message):
        load_study("tiny", [f"model.{override}"])


UNSLOTH = """
import json, sys
import objectives.policies.unsloth
from unsloth.models.rl import _patch_trl_rl_trainers_impl
_patch_trl_rl_trainers_impl("grpo_trainer")  # what importing it does on a GPU
import trl
from objectives.settings.learner import TrlSettings
from objectives.learners.trl_objective import check_objective, objective_arguments, restate
batch = dict(output_dir="out", use_cpu=True, per_device_train_batch_size=8, num_generations=4, report_to="none")
theirs = trl.GRPOConfig(loss_type="dapo", **batch)
print("THEIRS", theirs.epsilon_high, theirs.mask_truncated_completions, theirs.weight_decay)
for said in json.loads(sys.argv[1]):
    learner = TrlSettings(**said)
    arguments = trl.GRPOConfig(**objective_arguments(learner), **batch)
    restate(learner, arguments)
    check_objective(objective_arguments(learner), arguments)
    print("KEPT", said)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("triton") is None, reason="Unsloth's kernels import triton, which the CPU lock leaves out"
)
def test_what_unsloth_makes_of_TRLs_config_on_a_gpu_is_what_the_study_says(tmp_path):
    said = [
        {"loss_type": "cispo", "epsilon_high": 5.0, "entropy_coef": 0.01},
        GSPO, {}, {"loss_type": "dr_grpo"}, {"loss_type": "grpo", "scale_rewards": "none"}, {"optim": "adamw_8bit"},
        {"loss_type": "bnpo", "beta": 0.01, "weight_decay": 0.1, "delta": 3.0, "warmup_ratio": 0.1,
         "lr_scheduler_type": "cosine_with_min_lr", "min_lr_rate": 0.1},
    ]  # fmt: skip
    environment = {**os.environ, "UNSLOTH_COMPILE_LOCATION": str(tmp_path / "unsloth")}
    command = [sys.executable, "-c", UNSLOTH, json.dumps(said)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    # Where it is not told, it has settings of its own: the reason for all this.
    assert "THEIRS 0.28 True 0.001" in done.stdout
    assert done.stdout.count("KEPT") == len(said)


@pytest.mark.parametrize(
    "optim", ["adamw_torch_fused", "adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit"]
)
def test_optimizers_train_in_TRL_and_are_refused_in_packs(make, optim):
    feed = Feed(spec(0))
    make(TrlLearner, steps=1, optim=optim).serve(feed)
    assert not feed.failures
    with pytest.raises(StudyFileError, match=f"optim='{optim}' needs name = 'trl'.*allowed: 'adamw_torch'"):
        load_study("tiny", ["learner.name=packed", f"learner.optim={optim}"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["delta=1.1"], "delta=1.1 bounds the ratio.*allowed: more than 1 . epsilon_high, 1.2"),
        (["epsilon_high=0.5", "delta=1.4"], "allowed: more than 1 . epsilon_high, 1.5"),
        (["warmup_steps=5"], "a warm-up of 5 does nothing with lr_scheduler_type='constant'; allowed: 'constant_with"),
        (["warmup_ratio=0.1"], "a warm-up of 0.1 does nothing with lr_scheduler_type='constant'"),
        (["warmup_steps=5", "warmup_ratio=0.1", "lr_scheduler_type=cosine"], "say one thing in two ways"),
        (["warmup_steps=2.5", "lr_scheduler_type=cosine"], "warmup_steps=2.5; allowed: a whole number"),
        (["lr_scheduler_type=cosine_with_min_lr"], "with min_lr_rate=None; allowed: both"),
        (["min_lr_rate=0.1"], "'constant' with min_lr_rate=0.1; allowed: both"),
        (["lr_scheduler_type=polynomial"], "lr_scheduler_type.*'cosine_with_min_lr'.*given: 'polynomial'"),
        (["name=trl", "optim=lion_8bit"], "optim.*'paged_adamw_8bit'.*given: 'lion_8bit'"),
        (["name=packed", "optim=lion_8bit"], "optim.*'adamw_torch'.*given: 'lion_8bit'"),
        (["weight_decay=-1"], "weight_decay.*greater than or equal to 0"),
        (["adam_beta1=1"], "adam_beta1.*less than 1"),
        (["top_p=0"], "top_p.*greater than 0"),
        (["top_k=-2"], "top_k.*greater than or equal to -1"),
        (["min_p=1.5"], "min_p.*less than or equal to 1"),
        (["stop=['']"], "stop.*at least 1 character"),
        (["name=packed", "loss_type=bnpo", "micro_batch_size=8"], "'bnpo' with micro_batch_size=8 needs name = 'trl'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(overrides, message):
    with pytest.raises(StudyFileError, match=message):
        load_study("tiny", [f"learner.{override}" for override in overrides])


@pytest.mark.parametrize(
    ("said", "steps"),
    [({}, 0), ({"warmup_steps": 7}, 7), ({"warmup_steps": 0.1}, 3), ({"warmup_ratio": 0.1}, 3)],
)
def test_warm_up_is_counted_as_Transformers_does(said, steps):
    from transformers import TrainingArguments

    learner = TrlSettings(lr_scheduler_type="linear", **said)
    assert learner.count_warmup_steps(25) == steps
    assert TrainingArguments(warmup_steps=learner.warmup).get_warmup_steps(25) == steps


def test_an_optimizer_whose_package_is_absent_is_refused_by_plan(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StudyFileError, match=r"learner.optim: 'adamw_8bit' needs bitsandbytes.*pip install"):
        check_study(load_study("tiny", ["learner.name=trl", "learner.optim=adamw_8bit"]))


@pytest.mark.parametrize(("theirs", "ours"), [("stop_strings", "stop"), ("lr_scheduler_kwargs", "min_lr_rate")])
def test_names_from_elsewhere_lead_to_ours(theirs, ours):
    with pytest.raises(StudyFileError, match=f"learner.{theirs}: unknown key; did you mean '{ours}'"):
        load_study("tiny", [f"learner.{theirs}=1"])
