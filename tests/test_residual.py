"""PiSSA and OLoRA: what they take out of the base is served back, and put back."""

import json
import subprocess
import sys

import pytest
import torch
from peft import PeftModelForCausalLM
from pydantic import ValidationError

from objectives.engines.adapter_files import AdapterFolder
from objectives.engines.protocol import Sampling
from objectives.lora import LoraSpec
from objectives.policies.peft import PeftPolicy
from objectives.policies.residual import factors_of
from objectives.rewards.calling import RewardSet
from objectives.rewards.checked import checked
from objectives.settings.learner import TrlSettings
from objectives.settings.sections import BudgetSettings, WorkerSettings
from objectives.settings.tasks import StringOpsSettings
from objectives.tasks.string_ops import StringOps
from objectives.trial.evaluation import Evaluator
from objectives.trial.messages import TrialSpec
from objectives.trial.resources import Loaded
from sweep.answer.paste import paste_calls
from sweep.errors import StudyFileError
from sweep.planning.memory import plan_memory
from sweep.preflight.checks import check_study
from sweep.study.reading import load_study
from tests.support.command import SMALL, sweep
from tests.support.feed import Feed

PROMPT = torch.tensor([[3, 4, 5, 6, 7]])
THEIRS = ["model.policy=peft", "learner.name=trl", "space.r=[1,4,16]"]


@pytest.fixture(params=["pissa", "olora"])
def policy(request, tiny):
    chosen = PeftPolicy(tiny.model_copy(update={"policy": "peft", "init_lora_weights": request.param}))
    yield chosen
    chosen.release()


def trained(policy, lora):
    """A wrapped model after a few large steps on one prompt."""
    model = policy.build(lora, seed=0)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model(PROMPT, labels=PROMPT).loss.backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("use_rslora", [False, True])
def test_what_is_served_is_the_trained_policy_on_the_base_as_it_was(policy, use_rslora, tiny, tmp_path):
    before = policy.base(PROMPT).logits
    lora = LoraSpec(r=8, alpha=32, use_rslora=use_rslora)
    begun = policy.build(lora, seed=0)(PROMPT).logits
    torch.testing.assert_close(begun, before, atol=1e-4, rtol=1e-4)
    policy.release()
    model = trained(policy, lora)
    expected = model(PROMPT).logits.detach()
    assert (expected - before).abs().max() > 0.1
    policy.served().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 16
    fresh = PeftPolicy(tiny).base
    served = PeftModelForCausalLM.from_pretrained(fresh, tmp_path)
    torch.testing.assert_close(served(PROMPT).logits, expected, atol=1e-4, rtol=1e-4)


def test_it_is_what_peft_makes_of_the_two_adapters(policy, tmp_path):
    model = policy.build(LoraSpec(r=8, alpha=32), seed=0)
    began = model.peft_config["default"].init_lora_weights
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(tmp_path / "began")
    model.peft_config["default"].init_lora_weights = began
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    model(PROMPT, labels=PROMPT).loss.backward()
    optimizer.step()
    ours = factors_of(policy.served())
    policy.served().save_pretrained(tmp_path / "ours")
    model.save_pretrained(tmp_path / "peft", path_initial_model_for_weight_conversion=str(tmp_path / "began"))
    from safetensors.torch import load_file

    theirs = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    assert theirs.keys() == load_file(tmp_path / "ours" / "adapter_model.safetensors").keys()
    for name, (A, B) in ours.items():
        product = theirs[f"{name}.lora_B.weight"] @ theirs[f"{name}.lora_A.weight"]
        torch.testing.assert_close(B @ A, product, atol=1e-5, rtol=1e-4)


def test_the_base_is_itself_again_to_the_bit(policy, monkeypatch):
    before = {name: weight.clone() for name, weight in policy.base.state_dict().items()}
    for r in (4, 64, 1):
        trained(policy, LoraSpec(r=r, alpha=16))
        policy.release()
    monkeypatch.setattr("objectives.policies.peft.get_peft_model", fails_half_way)
    with pytest.raises(RuntimeError, match="half-way"):
        policy.build(LoraSpec(r=4, alpha=16), seed=0)
    after = policy.base.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def fails_half_way(base, config):
    from peft import get_peft_model

    get_peft_model(base, config)
    raise RuntimeError("half-way")


def test_a_trial_trains_and_the_engine_follows_it(policy, tiny, vllm_engine, tmp_path):
    from objectives.learners.trl import TrlLearner

    task = StringOps(symbols=1, seed=0)
    rewards = RewardSet(functions=tuple(checked(function) for function in task.reward_functions), weights=(1.0,))
    settings = WorkerSettings(
        study="test",
        model=policy._settings,
        task=StringOpsSettings(name="string_ops", symbols=1, held_out_prompts=64),
        learner=TrlSettings(),
        budget=BudgetSettings(steps=6, prompts_per_step=8, group_size=8),
        log_folder=tmp_path / "logs",
    )
    sampling = Sampling.of(settings.learner, max_tokens=task.max_completion_tokens)
    evaluator = Evaluator(
        engine=vllm_engine, tokenizer=policy.tokenizer, rewards=rewards, rows=task.held_out_rows(64), sampling=sampling
    )
    loaded = Loaded(policy=policy, engine=vllm_engine, task=task, rewards=rewards, evaluator=evaluator, facts={})
    adapters = AdapterFolder(tmp_path / "adapters", keep_in=tmp_path / "kept")
    spec = TrialSpec(number=0, lora=LoraSpec(r=8, alpha=8), learning_rate=1e-3, seed=0, score_after=(6,))
    feed = Feed(spec)
    TrlLearner(settings=settings, loaded=loaded, adapters=adapters).serve(feed)
    [result] = feed.results.values()
    assert result.scores[-1].sampled > result.base.sampled + 0.1
    assert all(0 < rank.energy <= 16 for rank in result.effective_ranks.values())
    assert json.loads((tmp_path / "kept" / "trial-0000-adapter" / "adapter_config.json").read_text())["r"] == 16


def test_ranks_reach_half_the_wall_and_the_rest_is_refused():
    study = load_study(
        "tiny", ["model.policy=peft", "learner.name=trl", "model.init_lora_weights=pissa", "space.r=[1,32]"]
    )
    check_study(study)
    refused = {
        "space.r=[1,64]": "r=64 with model.init_lora_weights='pissa' is served as an adapter of rank 128; "
        "max_lora_rank=64 allows up to 32",
        "model.init_lora_weights=eva": "looks at training data",
        "learner.name=packed": "trials of a pack share",
        "learner.beta=0.1": "the reference policy is",
        "model.policy=unsloth": "Unsloth may share",
        "model.load_in_4bit=true": "round anew",
        "model.dtype=bfloat16": "round anew",
        "model.dtype=auto": "round anew",
        "model.lora_dropout=0.1": "would drop what was taken out",
    }
    for override, told in refused.items():
        with pytest.raises((StudyFileError, ValidationError), match=told.replace(".", r"\.")):
            load_study("tiny", [*THEIRS, "model.init_lora_weights=pissa", override])


def test_more_directions_than_a_module_has_are_refused(tiny):
    given = [*THEIRS, "model.init_lora_weights=olora", "model.max_lora_rank=256", "space.r=[1,128]", "space.alpha=[16]"]
    with pytest.raises(StudyFileError, match="narrowest target module has; allowed: up to 64"):
        check_study(load_study("tiny", given))


def test_only_the_modules_that_get_an_adapter_bound_the_directions():
    given = [*THEIRS, "model.init_lora_weights=olora", "model.max_lora_rank=256", "space.r=[1,128]", "space.alpha=[16]"]
    for wide in ('model.target_modules=["q_proj", "o_proj"]', 'space.target_modules=["q_proj", "o_proj"]'):
        check_study(load_study("tiny", [*given, wide]))
    with pytest.raises(StudyFileError, match="allowed: up to 64"):
        check_study(load_study("tiny", [*given, 'space.target_modules=["q_proj", "v_proj"]']))


def test_what_is_pasted_begins_as_the_trials_did_and_has_room_to_serve_it():
    config = load_study("tiny", [*THEIRS, "model.init_lora_weights=olora"])
    pasted = paste_calls(config, r=16, alpha=32)
    compile(pasted, "pasted", "exec")
    assert 'init_lora_weights="olora",' in pasted
    assert "max_lora_rank=32," in pasted and "fast_inference=False," in pasted
    assert config.ceiling_for(16) == 32
    assert "init_lora_weights" not in paste_calls(load_study("tiny"), r=16, alpha=32)


def test_the_plan_counts_the_copies_that_are_put_back():
    plain = plan_memory(load_study("tiny", THEIRS), None).footprint
    changed = plan_memory(load_study("tiny", [*THEIRS, "model.init_lora_weights=pissa"]), None).footprint
    linears = [m for m in PeftPolicy(load_study("tiny").model).base.modules() if isinstance(m, torch.nn.Linear)]
    copied = sum(4 * m.weight.numel() for m in linears if m.out_features != 72)  # not the logits
    assert changed.trainer - plain.trainer == copied > 0


@pytest.mark.long
def test_what_is_exported_and_what_its_script_trains_lie_on_the_base_as_it_was(tmp_path):
    done = sweep(
        "run", "tiny", "--trials", 1, *SMALL, "--set", "space.r=[4]", "--set", "search.points_per_rank=1",
        "--set", "study.keep_adapters=true", "--set", "learner.name=trl", "--set", "model.policy=peft",
        "--set", "model.init_lora_weights=pissa", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert sweep("export", "tiny", "--trial", 0, "-o", "out", cwd=tmp_path).returncode == 0
    out = tmp_path / "out"
    assert "begun by pissa, so that the adapter here is one of rank 8" in (out / "README.md").read_text()
    script = [sys.executable, "train.py", "--steps", "1"]
    trained = subprocess.run(script, cwd=out, capture_output=True, text=True, check=False, timeout=300)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    for folder in (out, out / "trained"):
        config = json.loads((folder / "adapter_config.json").read_text())
        assert (config["r"], config["init_lora_weights"]) == (8, True)
        assert config["lora_alpha"] in (32, 64, 128)
