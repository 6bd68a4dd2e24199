"""TRL's DPOTrainer on preference pairs: what a trial does and measures, and that our scores are TRL's own numbers."""

import dataclasses
import math

import pytest
import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Sampling
from objectives.engines.unused import UnusedEngine
from objectives.errors import EngineError
from objectives.learners.dpo import COLUMNS, DpoLearner, step_metrics
from objectives.lora import LoraSpec, modules_of
from objectives.rewards.calling import RewardSet
from objectives.rewards.checked import checked
from objectives.settings.dpo import DpoSettings
from objectives.settings.pack import PAIRS_AT_ONCE
from objectives.settings.sections import BudgetSettings, WorkerSettings
from objectives.settings.tasks import PreferencesSettings
from objectives.tasks.build import build_task
from objectives.trial.evaluation import Evaluator
from objectives.trial.messages import HeldOutScore, TrialSpec
from objectives.trial.pairs import Pair, PairEvaluator, completion_logps, pair_batches, tokenize_pairs
from objectives.trial.resources import Loaded
from sweep.early_stopping.collapse_monitor import CollapseMonitor, lost_on_held_out
from tests.support.packed_trials import Feed

STEPS = 3
SETTINGS = PreferencesSettings(
    name="preferences",
    data="objectives.tasks.string_pairs:preference_pairs",
    max_completion_tokens=8,
    held_out_prompts=100,
    train_prompts=1000,
)


def spec(number=0, *, r=8, seed=0, learning_rate=2e-3):
    lora = LoraSpec(r=r, alpha=32)
    return TrialSpec(number=number, lora=lora, learning_rate=learning_rate, seed=seed, score_after=(1,))


@pytest.fixture(scope="module")
def task():
    return build_task(SETTINGS, seed=0, folders=(), chat=False)


@pytest.fixture(params=["peft", "unsloth"])
def policy(request):
    return request.getfixturevalue(f"{request.param}_policy")


@pytest.fixture
def make(tiny, policy, task, tmp_path):
    def make(*, steps=STEPS, engine=None, reward=None, **learner):
        settings = WorkerSettings(
            study="test",
            model=tiny,
            task=SETTINGS if reward is None else SETTINGS.model_copy(update={"reward": ("r:f",)}),
            learner=DpoSettings(name="dpo", **learner),
            budget=BudgetSettings(steps=steps, prompts_per_step=8, group_size=2),
            log_folder=tmp_path / "logs",
        )
        rows = task.held_out_rows(100)
        pairs = PairEvaluator(pairs=tokenize_pairs(policy.tokenizer, rows, longest=64))
        rewards = RewardSet(functions=() if reward is None else (checked(reward),), weights=(1.0,) * bool(reward))
        engine = engine or UnusedEngine(max_lora_rank=64)
        sampling = Sampling.of(settings.learner, max_tokens=8)
        evaluator = Evaluator(engine=engine, tokenizer=policy.tokenizer, rewards=rewards, rows=rows, sampling=sampling)
        loaded = Loaded(
            policy=policy, engine=engine, task=task, rewards=rewards, evaluator=evaluator, facts={},
            pairs=pairs if reward is None else None,
        )  # fmt: skip
        adapters = AdapterFolder(tmp_path / "adapters")
        return DpoLearner(settings=settings, learner=settings.learner, loaded=loaded, adapters=adapters)

    return make


def test_a_trial_reports_every_step_and_ranks_held_out_pairs(make, tmp_path, capfd):
    feed = Feed(spec(), spec(1, r=64, seed=1))
    with capfd.disabled():
        make().serve(feed)
    assert not feed.failures
    for number, result in feed.results.items():
        steps = feed.of(number)
        assert [metrics.step for metrics in steps] == [1, 2, 3]
        assert [score.step for score in result.scores] == [1, STEPS]
        assert (result.steps, result.pruned, result.base.sampled) == (STEPS, False, 0.5)
        assert 0 < result.held_out.sampled <= 1 and result.held_out.prompts == 100
        assert all(0 <= metrics.reward <= 1 and math.isfinite(metrics.loss) for metrics in steps)
        # An untrained adapter ranks nothing: its first loss is that of a coin.
        assert steps[0].loss == pytest.approx(math.log(2), abs=1e-4) and steps[0].reward == 0.5
        assert result.tokens == steps[-1].tokens > 0 and {"build", "train", "evaluate"} <= result.seconds.keys()
        assert set(steps[0].rewards) == {"margins", "chosen", "rejected"}
    assert "pairs ranked right" in (tmp_path / "logs" / "trial-0000.log").read_text()


def test_each_trial_adapts_its_own_modules(make):
    lora = {name: LoraSpec(r=8, alpha=32, target_modules=modules_of(name)) for name in ("attention", "mlp")}
    specs = [dataclasses.replace(spec(i), lora=lora[name]) for i, name in enumerate(lora)]
    make().serve(feed := Feed(*specs))
    for number, each in enumerate(lora.values()):
        assert set(feed.results[number].effective_ranks) == set(each.target_modules)
    assert feed.results[0].adapter_parameters == 8 * 2 * (2 * (128 + 128) + 2 * (128 + 64))
    assert feed.results[1].adapter_parameters == 8 * 2 * 3 * (128 + 256)


def test_training_ranks_more_pairs_right(make):
    feed = Feed(spec(learning_rate=4e-3))
    make(steps=60).serve(feed)
    assert feed.results[0].held_out.sampled > 0.6


@pytest.mark.parametrize(("loss", "first"), [("sigmoid", math.log(2)), ("hinge", 1.0), ("ipo", 25.0)])
def test_the_study_says_which_loss(make, loss, first):
    feed = Feed(spec())
    make(loss_type=loss, steps=1).serve(feed)
    # Where policy and base agree: -log sigmoid(0), relu(1 - 0), and (0 - 1 / (2 beta))^2 at beta .1.
    assert feed.of(0)[0].loss == pytest.approx(first, rel=1e-3)


def test_a_pruned_trial_ends_at_its_step_and_the_next_one_is_as_if_it_had_not_been(make):
    alone, after = Feed(spec(1, r=4)), Feed(spec(0, r=64, learning_rate=0.05), spec(1, r=4), prune={0: 1})
    make().serve(alone)
    make().serve(after)
    assert (after.results[0].steps, after.results[0].pruned) == (1, True)
    assert [m.loss for m in alone.of(1)] == [m.loss for m in after.of(1)]
    assert alone.results[1].scores == after.results[1].scores


def test_micro_batches_hold_whole_pairs_and_change_nothing_but_rounding(make):
    whole, parts = Feed(spec()), Feed(spec())
    make().serve(whole)
    make(micro_batch_size=4).serve(parts)
    assert [m.loss for m in parts.of(0)] == pytest.approx([m.loss for m in whole.of(0)], rel=1e-3)


def test_pairs_are_tokens_as_trl_makes_them_and_their_likelihoods_are_trls(policy, task, tmp_path):
    rows = task.held_out_rows(12)
    model = policy.build(LoraSpec(r=4, alpha=16), seed=0)
    try:
        trainer = DPOTrainer(
            model=model,
            args=DPOConfig(output_dir=str(tmp_path), use_cpu=True, report_to="none", per_device_train_batch_size=12),
            train_dataset=Dataset.from_list([{name: row[name] for name in COLUMNS} for row in rows]),
            processing_class=policy.tokenizer,
        )
        ours = tokenize_pairs(policy.tokenizer, rows, longest=64)
        theirs = [tuple(tuple(row[f"{name}_ids"]) for name in COLUMNS) for row in trainer.train_dataset.to_list()]
        assert [(pair.prompt, pair.chosen, pair.rejected) for pair in ours] == theirs
        batch = trainer.data_collator(trainer.train_dataset.to_list())
        chosen, rejected = trainer.compute_ref_log_probs(model, dict(batch))
        prompts = [pair.prompt for pair in ours]
        with model.disable_adapter():
            for logps, name in ((chosen, "chosen"), (rejected, "rejected")):
                own = completion_logps(model, prompts, [getattr(pair, name) for pair in ours])
                torch.testing.assert_close(own, logps.detach().float(), atol=1e-4, rtol=1e-4)
    finally:
        policy.release()


def test_only_completions_have_logits(policy):
    model, shapes = policy.build(LoraSpec(r=4, alpha=16), seed=0), []
    hook = model.get_output_embeddings().register_forward_hook(lambda *call: shapes.append(tuple(call[-1].shape[:2])))
    try:
        prompts, completions = [list(range(5, 25)), list(range(5, 27))], [[7, 8, 9], [7]]
        both = completion_logps(model, prompts, completions)
        alone = torch.cat([completion_logps(model, [p], [c]) for p, c in zip(prompts, completions, strict=True)])
        # From the shortest prompt's last token to the end of the longest sequence.
        assert shapes == [(2, 4), (1, 4), (1, 2)]
        torch.testing.assert_close(both, alone, atol=1e-4, rtol=1e-4)
    finally:
        hook.remove()
        policy.release()


def test_pairs_that_go_through_the_model_together_stay_within_a_number_of_logits():
    def pair(prompt, chosen, rejected=1):
        return Pair(prompt=(1,) * prompt, chosen=(1,) * chosen, rejected=(1,) * rejected)

    # 9 completion tokens and the prompt's last are 10 positions: at vocabulary 10, three pairs have 300 logits.
    assert pair_batches([pair(5, 9)] * 4, vocab=10, at_once=300) == [[0, 1, 2], [3]]
    assert pair_batches([pair(5, 1, 9)] * 4, vocab=10, at_once=300) == [[0, 1, 2], [3]]
    assert pair_batches([pair(5, 9), pair(90, 9), pair(5, 9)], vocab=10, at_once=300) == [[0, 2], [1]]
    assert pair_batches([pair(5, 900), pair(5, 900)], vocab=10, at_once=300) == [[0], [1]]
    assert [len(batch) for batch in pair_batches([pair(5, 1)] * (PAIRS_AT_ONCE + 1), vocab=10)] == [PAIRS_AT_ONCE, 1]


def test_a_pair_counts_by_what_it_gained_over_the_base_and_a_tie_counts_half(policy, task):
    evaluator = PairEvaluator(pairs=tokenize_pairs(policy.tokenizer, task.held_out_rows(70), longest=64))
    model = policy.build(LoraSpec(r=4, alpha=16), seed=0)
    try:
        assert evaluator.score(model, step=0).sampled == 0.5  # B is zero: the adapter changes nothing
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.02, generator=torch.Generator().manual_seed(0))
        gained = [
            _gain(model, pair.prompt, pair.chosen) - _gain(model, pair.prompt, pair.rejected)
            for pair in evaluator.pairs
        ]
        right = [gain > 0 for gain in gained]
        score = evaluator.score(model, step=0)
        assert score.sampled == pytest.approx(sum(right) / 70)
        assert score.rewards == {"margin": pytest.approx(sum(gained) / 70, abs=1e-4)}
    finally:
        policy.release()


def _gain(model, prompt, completion):
    own = float(completion_logps(model, [prompt], [completion]))
    with model.disable_adapter():
        return own - float(completion_logps(model, [prompt], [completion]))


def test_likelihoods_that_are_no_numbers_are_a_collapse(policy, task):
    evaluator = PairEvaluator(pairs=tokenize_pairs(policy.tokenizer, task.held_out_rows(70), longest=64))
    model = policy.build(LoraSpec(r=4, alpha=16), seed=0)
    try:
        evaluator.score(model, step=0)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.constant_(weight, math.nan)
        ruined = evaluator.score(model, step=1)
        assert ruined.rewards == {"margin": None}
        assert ruined.sampled == 0 and lost_on_held_out(ruined, evaluator.base_score(0))
    finally:
        policy.release()


def test_a_step_whose_margins_are_no_numbers_is_a_collapse():
    # As TRL logs it: no comparison with what is no number is true.
    logs = {"loss": 0.0} | {f"rewards/{name}": math.nan for name in ("margins", "chosen", "rejected")}
    step = step_metrics(3, logs | {"rewards/accuracies": 0.0}, seconds=1.0, tokens=9, length=2.0)
    base = HeldOutScore(step=0, sampled=0.5, greedy=None, prompts=100, spread=0.5)
    assert CollapseMonitor(base=base, patience=5, prompts_per_step=8).observe(step) == "reward is nan at step 3"


def test_with_a_reward_function_the_engines_completions_are_scored(make, vllm_engine):
    def length(completions, **columns):
        return [float(len(completion)) for completion in completions]

    feed = Feed(spec(r=4))
    make(engine=vllm_engine, reward=length).serve(feed)
    result = feed.results[0]
    assert result.held_out.sampled > 1 and result.held_out.greedy is not None
    assert result.base.sampled > 1


def test_an_engine_that_is_not_there_says_why():
    with pytest.raises(EngineError, match=r"task\.reward names functions"):
        UnusedEngine(max_lora_rank=8).rollout([], [], None, [])
