"""What TRL's trainer is told to optimise, and a look at whether it does: Unsloth changes it where a field is unset."""

from __future__ import annotations

from typing import Any

from objectives.errors import PolicyError
from objectives.settings.dpo import DpoSettings
from objectives.settings.grpo import GrpoSettings
from objectives.settings.training import TrainingSettings

ADAMW = ("adamw_torch", "adamw_torch_fused")
"""One update, computed by one kernel or by several."""


def objective_arguments(learner: GrpoSettings) -> dict[str, Any]:
    """GRPOConfig's arguments that decide what is optimised and how, every one stated.

    Unsloth 2026.10 has defaults of its own, and gives an explicit `dapo` the clipping and the masking of its paper
    where they are unset: a study on a GPU would optimise something else than one on a CPU.
    """
    return {
        "loss_type": learner.loss_type,
        "beta": learner.beta,
        "epsilon": learner.epsilon,
        "epsilon_high": learner.clip_above,
        "delta": learner.delta,
        "scale_rewards": learner.scale_rewards,
        "importance_sampling_level": learner.importance_sampling_level,
        "entropy_coef": learner.entropy_coef,
        # Of mixtures of experts: the packed learner has no such loss, and Unsloth none where it is unset.
        "router_aux_loss_coef": 0.0,
        # The engine's word for what was cut goes with the rollout: TRL knows one end token, and models have several.
        "mask_truncated_completions": False,
        # Unsloth turns TRL's vLLM mode on where the model has an engine; the correction stays the study's to state.
        "vllm_importance_sampling_correction": False,
        "num_iterations": learner.num_iterations,
        "temperature": learner.temperature,
        **optimizer_arguments(learner),
    }


def pair_objective_arguments(learner: DpoSettings) -> dict[str, Any]:
    """DPOConfig's arguments that decide what is optimised and how, every one stated."""
    return {
        "loss_type": [learner.loss_type],
        "beta": learner.beta,
        "label_smoothing": 0.0,
        "f_divergence_type": "reverse_kl",
        "ld_alpha": None,
        "use_weighting": False,
        # The adapter's own dropout is the study's to state.
        "disable_dropout": False,
        **optimizer_arguments(learner),
    }


def optimizer_arguments(learner: TrainingSettings) -> dict[str, Any]:
    """The arguments of any of TRL's configurations that decide how weights move, every one stated."""
    return {
        "optim": learner.optim,
        "weight_decay": learner.weight_decay,
        "adam_beta1": learner.adam_beta1,
        "adam_beta2": learner.adam_beta2,
        "adam_epsilon": 1e-8,
        "max_grad_norm": learner.max_grad_norm,
        "lr_scheduler_type": learner.lr_scheduler_type,
        "lr_scheduler_kwargs": {} if learner.min_lr_rate is None else {"min_lr_rate": learner.min_lr_rate},
        "warmup_steps": learner.warmup,
    }


def restate(learner: TrainingSettings, arguments: Any) -> None:
    """Sets what Unsloth 2026.10 changes in a configuration even where it is stated; trainers take it from there."""
    if isinstance(learner, GrpoSettings):
        # It turns scaling off under Dr. GRPO's loss.
        arguments.scale_rewards = learner.scale_rewards
    # On a CPU it takes torch's fused AdamW for every other, 8-bit ones included, which bitsandbytes has there, too.
    if learner.optim not in ADAMW:
        arguments.optim = type(arguments.optim)(learner.optim)


def check_objective(stated: dict[str, Any], arguments: Any) -> None:
    """Compares what a trainer was told with what it goes by.

    Args:
        stated: The arguments that were passed.
        arguments: The trainer's `args`.

    Raises:
        PolicyError: naming every field that somebody has changed on the way.
    """
    changed = [
        f"{name}={getattr(arguments, name, None)!r} instead of {value!r}"
        for name, value in stated.items()
        if not _same(getattr(arguments, name, None), value)
    ]
    if changed:
        raise PolicyError(f"the trainer would not optimise what the study says: {', '.join(changed)}")


def _same(found: Any, stated: Any) -> bool:
    return bool(found == stated) or (found in ADAMW and stated in ADAMW)
