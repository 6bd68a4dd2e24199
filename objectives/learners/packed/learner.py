"""GRPO for K trials at once: one base and one engine, K adapters; rollouts and steps of many of them in one go."""

from __future__ import annotations

import functools
import gc
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from objectives.engines.adapter_files import AdapterFolder
from objectives.errors import PolicyError, RewardError, is_out_of_memory
from objectives.learners.packed.alternation import Rollouts
from objectives.learners.packed.grpo import Objective
from objectives.learners.packed.linear import Pack, pack
from objectives.learners.packed.optimizer import PackedAdamW
from objectives.learners.packed.rollouts import Sampler
from objectives.learners.packed.step import Stepper
from objectives.learners.packed.training import PackTraining
from objectives.learners.protocol import TrialFeed
from objectives.settings.grpo import GrpoSettings
from objectives.settings.pack import pack_halves
from objectives.settings.sections import WorkerSettings
from objectives.trial.resources import Loaded, training_rows


class PackedLearner:
    """Trains up to `slots` trials at once, in packs that fit into memory."""

    def __init__(self, *, settings: WorkerSettings, loaded: Loaded, adapters: AdapterFolder, slots: int) -> None:
        """Sets up.

        Args:
            settings: What trials share.
            loaded: The same, loaded. Its engine has room for `slots` adapters.
            adapters: Where adapters are handed to the engine.
            slots: How many trials may run at once.

        Raises:
            TaskError: where the task has too few prompts for a step.
            PolicyError: where the model is one that packs cannot train.
        """
        self._slots = slots
        self._settings, self._loaded, self._adapters = settings, loaded, adapters
        budget, learner, task = settings.budget, settings.grpo, loaded.task
        self._rows = training_rows(loaded, settings)
        if settings.model.number_format == "float16" and torch.cuda.is_available():
            raise PolicyError("packed trials do not scale losses, which float16 needs; use bfloat16")
        self._objective = learner_objective(
            learner, group_size=budget.group_size, max_completion_tokens=task.max_completion_tokens
        )
        self._sampler = Sampler(settings=settings, loaded=loaded, adapters=adapters, rows=self._rows)

    def serve(self, feed: TrialFeed) -> None:
        """See `Learner.serve`. Where memory runs short, a pack of half the size goes on."""
        while True:
            try:
                self._serve_pack(feed)
            except RewardError:
                raise
            except Exception as error:
                if not is_out_of_memory(error) or self._slots == 1:
                    raise
            else:
                return
            # Out here: until the `except` is left, the error's traceback holds the tensors of the pack.
            self._slots //= 2
            gc.collect()
            torch.cuda.empty_cache()

    def _serve_pack(self, feed: TrialFeed) -> None:
        base, model = self._loaded.policy.base, self._settings.model
        packed = pack(base, model.target_modules, slots=self._slots, r_max=model.max_lora_rank)
        was_training = base.training
        try:
            stepper = self._stepper(packed)
            # Transformers recomputes activations of a model in training mode only.
            base.train()
            PackTraining(
                feed=feed,
                settings=self._settings,
                loaded=self._loaded,
                adapters=self._adapters,
                stepper=stepper,
                rollouts=Rollouts(self._sampler, halves=pack_halves(self._slots, on_gpu=base.device.type != "cpu")),
                prompts=len(self._rows),
            ).serve()
        finally:
            packed.unpack()
            base.gradient_checkpointing_disable()
            base.train(was_training)

    def _stepper(self, packed: Pack) -> Stepper:
        model, learner = self._settings.model, self._settings.grpo
        checkpointing = model.gradient_checkpointing != "off"
        if checkpointing:
            # The reentrant kind has no gradients where a layer's input has none, as behind frozen embeddings.
            packed.model.gradient_checkpointing_enable({"use_reentrant": False})
        else:
            packed.model.gradient_checkpointing_disable()
        return Stepper(
            packed,
            PackedAdamW(packed.weights, packed.gradients, **learner_adamw(learner)),
            self._objective,
            max_grad_norm=learner.max_grad_norm,
            micro_batch_size=learner.micro_batch_size,
            prompt_once=not checkpointing and not model.lora_dropout,
            dropout=model.lora_dropout,
            longest_prompt=model.max_seq_length - self._loaded.task.max_completion_tokens,
            autocast=functools.partial(_autocast, packed.weights.device, model.number_format),
        )


def learner_objective(learner: GrpoSettings, *, group_size: int, max_completion_tokens: int) -> Objective:
    """What a study's trials optimise."""
    return Objective(
        algorithm=learner.algorithm,
        loss_type=learner.loss_type,
        importance_sampling_level=learner.importance_sampling_level,
        entropy_coef=learner.entropy_coef,
        group_size=group_size,
        max_completion_tokens=max_completion_tokens,
        temperature=learner.temperature,
        epsilon=learner.epsilon,
        epsilon_high=learner.epsilon_high,
        delta=learner.delta,
        mask_truncated_completions=learner.mask_truncated_completions,
        beta=learner.beta,
        scale_rewards=learner.scale_rewards,
        correction=learner.importance_sampling_correction,
    )


def learner_adamw(learner: GrpoSettings) -> dict[str, Any]:
    """The optimizer's options of a study."""
    return {"betas": (learner.adam_beta1, learner.adam_beta2), "weight_decay": learner.weight_decay}


def _autocast(device: torch.device, dtype: str) -> AbstractContextManager[Any]:
    """Forward passes of a GPU's half-precision model run as in TRL's trainer; everything else as it stands."""
    if device.type != "cuda" or dtype == "float32":
        return nullcontext()
    context: AbstractContextManager[Any] = torch.autocast(device.type, getattr(torch, dtype))
    return context
