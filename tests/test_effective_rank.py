"""How many of its ranks an adapter uses: against the singular values of the whole product, and in both learners."""

import math

import optuna
import pytest
import torch
from optuna.samplers import RandomSampler
from peft import get_peft_model

from objectives.learners.effective_rank import effective_ranks
from objectives.learners.packed.linear import pack
from objectives.learners.packed.slots import SlotAdapter
from objectives.lora import TARGET_MODULES, LoraSpec
from objectives.policies.peft import peft_config
from objectives.policies.protocol import peft_factors
from objectives.trial.messages import EffectiveRank, HeldOutScore, TrialResult, TrialSpec
from sweep.early_stopping.collapse_monitor import CollapseMonitor
from sweep.plots.effective_rank import effective_rank_figure, effective_rank_info
from sweep.results import frame_trials
from sweep.running.running_trial import RunningTrial
from sweep.search.schedule import distributions
from sweep.storage import attributes
from sweep.storage.database import create_or_match_study, open_storage
from sweep.study.reading import load_study
from tests.support.packed import random_model


def of_product(product):
    """Stable rank and singular values that hold 90 % of the energy, of a whole matrix."""
    energy = torch.linalg.svdvals(product.double()).square()
    return float(energy.sum() / energy[0]), int((energy.cumsum(0) < 0.9 * energy.sum()).sum()) + 1


@pytest.mark.parametrize("r", [1, 4, 64])
def test_singular_values_are_those_of_the_whole_product_averaged_over_layers(r):
    torch.manual_seed(r)
    decay = 0.8 ** torch.arange(r)
    factors = {f"layers.{i}.{kind}": (torch.randn(r, 40), torch.randn(70, r) * decay) for i in (0, 1) for kind in "qv"}
    found = effective_ranks(factors)
    assert found.keys() == {"q", "v"}
    for kind, own in found.items():
        stable, energy = zip(
            *(of_product(B @ A) for A, B in (factors[f"layers.{i}.{kind}"] for i in (0, 1))), strict=True
        )
        assert own.stable == pytest.approx(sum(stable) / 2, rel=1e-4)
        assert own.energy == sum(energy) / 2
        assert 1 <= own.stable <= r and 1 <= own.energy <= r


def test_known_spectra_are_counted():
    values = torch.tensor([3.0, 3.0, 1.0, 0.0])  # energies 9, 9, 1 of 19: two hold 95 %
    [found] = effective_ranks({"a.k": (torch.eye(4, 8), torch.eye(6, 4) * values)}).values()
    assert (found.stable, found.energy) == (pytest.approx(19 / 9), 2.0)


def test_a_module_without_an_update_is_left_out_and_weights_that_are_not_finite_say_nothing():
    one = torch.ones(2, 3), torch.ones(3, 2)
    zero = torch.ones(2, 3), torch.zeros(3, 2)
    assert effective_ranks({"0.q": one, "1.q": zero, "0.v": zero}) == {
        "q": EffectiveRank(stable=pytest.approx(1.0), energy=1.0)
    }
    assert effective_ranks({"0.q": one, "1.q": (torch.full((2, 3), math.nan), torch.ones(3, 2))}) == {}
    assert effective_ranks({"0.q": one, "1.q": (torch.full((2, 3), 1e30), torch.ones(3, 2))}) == {}


def test_a_padded_slot_and_a_peft_model_say_the_same():
    lora = LoraSpec(r=3, alpha=32)
    slots = SlotAdapter(pack(random_model(), TARGET_MODULES, slots=2, r_max=8), 1, lora, seed=0)
    model = get_peft_model(random_model(), peft_config(lora))
    torch.manual_seed(1)
    for name, (A, B) in slots.factors().items():
        B.normal_()
        of_peft = peft_factors(model)[f"base_model.model.{name}"]
        with torch.no_grad():
            of_peft[0].copy_(A)
            of_peft[1].copy_(B)
    assert effective_ranks(slots.factors()).keys() == set(TARGET_MODULES)
    for kind, own in effective_ranks(peft_factors(model)).items():
        assert own.stable == pytest.approx(effective_ranks(slots.factors())[kind].stable)


def ended(number, r, by_kind, *, value=0.5, **attrs):
    """A stored trial, with what is known of its update."""
    score = {"step": 4, "sampled": value, "greedy": value, "prompts": 64}
    known = {attributes.EFFECTIVE_RANKS: by_kind} if by_kind else {}
    return optuna.trial.create_trial(
        params={"r": r},
        distributions={"r": optuna.distributions.CategoricalDistribution([1, 4, 64])},
        value=value,
        user_attrs={attributes.SCORES: [score], **known, **attrs},
    )


TRIALS = [
    ended(0, 4, {"q_proj": [1.5, 2.0], "v_proj": [2.5, 3.0]}),
    ended(1, 4, {"q_proj": [2.5, 3.0], "v_proj": [2.5, 3.0]}),
    ended(2, 64, {"q_proj": [4.0, 9.0], "v_proj": [6.0, 11.0]}),
    ended(3, 64, {"q_proj": [60.0, 60.0]}, **{attributes.ENDED_EARLY: True}),
    ended(4, 1, {}),
]


def test_ranks_are_averaged_over_trials_of_the_whole_budget_that_have_them():
    info = effective_rank_info(TRIALS)
    assert [(rank.r, rank.trials, rank.mean.stable, rank.mean.energy) for rank in info.ranks] == [
        (4, 2, 2.25, 2.75),
        (64, 1, 5.0, 10.0),
    ]
    assert info.ranks[0].by_kind["q_proj"] == EffectiveRank(stable=2.0, energy=2.5)
    assert info.sentence == (
        "Ranks that hold 90 % of the energy of an update, on average over modules: 2.8 at r=4, 10.0 at r=64."
    )
    every, q, v = effective_rank_figure(info).data
    assert (every.y, q.name, q.x, q.y, v.y) == ((4, 64), "q", (4, 64), (2.5, 9.0), (3.0, 11.0))
    assert not effective_rank_info(TRIALS[-1:]).ranks


def test_frames_have_both_numbers_and_old_trials_have_none():
    frame = frame_trials({("tiny", "search"): TRIALS}).trials
    assert frame["rank_90"].tolist()[:3] == [2.5, 3.0, 10.0] and math.isnan(frame["rank_90"][4])
    assert frame["stable_rank:q_proj"].tolist()[:3] == [1.5, 2.5, 4.0]
    assert "rank_90" not in frame_trials({("tiny", "search"): TRIALS[-1:]}).trials


@pytest.mark.parametrize("reward", [0.5, 0.0])
def test_a_trial_that_collapsed_stores_none(tmp_path, reward):
    config = load_study("tiny")
    study = create_or_match_study(open_storage(f"sqlite:///{tmp_path}/a.db", create=True), config, RandomSampler())
    trial = study.ask(distributions(config.search_space()))
    base, score = (HeldOutScore(step=4, sampled=s, greedy=s, prompts=1024, spread=0.4) for s in (0.25, reward))
    running = RunningTrial(
        trial=trial,
        spec=TrialSpec(number=0, lora=LoraSpec(r=4, alpha=16), learning_rate=1e-3, seed=0),
        monitor=CollapseMonitor(base=base, patience=5, prompts_per_step=8),
        pruner=None,
    )
    found = {"q_proj": EffectiveRank(stable=1.23456789, energy=2.5)}
    result = TrialResult(
        scores=(score,), steps=4, pruned=False, tokens=9, adapter_parameters=9, seconds={}, effective_ranks=found
    )  # fmt: skip
    running.store(study, result)
    stored = attributes.effective_ranks(study.trials[0].user_attrs)
    assert stored == ({"q_proj": EffectiveRank(stable=1.23457, energy=2.5)} if reward else {})


def test_a_decomposition_that_is_not_found_costs_the_figure_and_nothing_else(monkeypatch):
    def fails(*_):
        raise torch.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(torch.linalg, "eigh", fails)
    assert effective_ranks({"q_proj": (torch.ones(2, 4), torch.ones(4, 2))}) == {}
