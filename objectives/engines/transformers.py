"""Rollouts from Transformers' `generate`: slow, but wherever Transformers runs there is no engine to install."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, BatchEncoding, StoppingCriteria

from objectives.engines.adapter_files import AdapterVersion
from objectives.engines.end_tokens import end_tokens
from objectives.engines.four_bits import four_bits
from objectives.engines.protocol import Completion, Sampling
from objectives.errors import EngineError
from objectives.settings.sections import ModelSettings


class TransformersEngine:
    """Holds its own copy of the base model, and loads each adapter version from its folder."""

    name = "transformers"

    def __init__(self, settings: ModelSettings, *, max_lora_rank: int) -> None:
        self.max_lora_rank = max_lora_rank
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._base: Any = AutoModelForCausalLM.from_pretrained(
                settings.path,
                dtype=getattr(torch, settings.number_format),
                quantization_config=four_bits(settings),
                device_map={"": self._device},
            )
            tokenizer = AutoTokenizer.from_pretrained(settings.path)
        except (ValueError, OSError) as error:
            raise EngineError(f"Transformers could not load {settings.name!r}: {error}") from error
        self._tokenizer = tokenizer
        self._ends = end_tokens(tokenizer, self._base)
        # In prompts it is masked, and behind completions cut off, so that an end token will do.
        self._pad: int = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def rollout(
        self,
        prompts: Sequence[Sequence[int]],
        adapters: Sequence[AdapterVersion | None],
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Completion]:
        """See `Engine.rollout`. A batch is seeded as a whole, by its first seed, so neighbours do matter here."""
        completions: dict[int, Completion] = {}
        # PEFT adapts the whole model at once, so prompts are taken together by adapter.
        for version in dict.fromkeys(adapters):
            rows = [i for i, adapter in enumerate(adapters) if adapter == version]
            # Training draws from the same generator: what it draws must not depend on what was sampled in between.
            with self._adapted(version) as model, torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(seeds[rows[0]])
                batch = self._generate(model, [prompts[i] for i in rows], sampling)
            completions.update(zip(rows, batch, strict=True))
        return [completions[i] for i in range(len(prompts))]

    @contextmanager
    def _adapted(self, version: AdapterVersion | None) -> Iterator[Any]:
        if version is None:
            yield self._base
            return
        if version.r > self.max_lora_rank:
            raise EngineError(f"r={version.r} exceeds max_lora_rank={self.max_lora_rank}")
        try:
            model = PeftModel.from_pretrained(self._base, str(version.path))
        except (ValueError, OSError) as error:
            raise EngineError(f"PEFT could not load adapter {version.name}: {error}") from error
        try:
            yield model.eval()
        finally:
            # PEFT replaced modules of the base; the next adapter needs the plain ones again.
            self._base = model.unload()

    def _generate(self, model: Any, prompts: list[Sequence[int]], sampling: Sampling) -> list[Completion]:
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self._pad)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            # Padded on the left: `generate` goes on from the last position of every row.
            ids[i, width - len(prompt) :] = torch.tensor(list(prompt))
            mask[i, width - len(prompt) :] = 1
        greedy = sampling.temperature == 0
        output = model.generate(
            **BatchEncoding({"input_ids": ids, "attention_mask": mask}).to(self._device),
            max_new_tokens=sampling.max_tokens,
            do_sample=not greedy,
            **({} if greedy else _distribution(sampling)),
            stopping_criteria=[_AtText(self._tokenizer, sampling.stop, start=width)] if sampling.stop else None,
            pad_token_id=self._pad,
            eos_token_id=sorted(self._ends),
            # `scores`, not `logits`: with temperature and all else applied, as what is sampled from.
            output_scores=True,
            return_dict_in_generate=True,
        )
        logprobs = torch.stack(output.scores, dim=1).log_softmax(-1)
        tokens = output.sequences[:, width:]
        chosen = logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return [self._until_end(t, p, sampling.stop) for t, p in zip(tokens.tolist(), chosen.tolist(), strict=True)]

    def _until_end(self, tokens: list[int], logprobs: list[float], stop: Sequence[str]) -> Completion:
        # `generate` pads rows that ended early until the longest one is done.
        ends = (
            i
            for i in range(1, len(tokens) + 1)
            if tokens[i - 1] in self._ends or (stop and _holds(self._tokenizer.decode(tokens[:i]), stop))
        )
        end = next(ends, None)
        return Completion(token_ids=tuple(tokens[:end]), logprobs=tuple(logprobs[:end]), truncated=end is None)

    def close(self) -> None:
        """Frees the base model."""
        del self._base
        gc.collect()


class LiveEngine(TransformersEngine):
    """Samples from a policy's own model while it trains; what is asked for without an adapter, from the base."""

    def __init__(self, settings: ModelSettings, *, live: Any) -> None:
        """Loads a base of its own.

        Args:
            settings: Which.
            live: The model that is trained.
        """
        super().__init__(settings, max_lora_rank=settings.max_lora_rank)
        self._live = live

    @contextmanager
    def _adapted(self, version: AdapterVersion | None) -> Iterator[Any]:
        if version is None:
            yield self._base
            return
        training = self._live.training
        try:
            yield self._live.eval()
        finally:
            self._live.train(training)


def _distribution(sampling: Sampling) -> dict[str, float | int | None]:
    """What `generate` samples from, all of it stated: its default of top_k=50 is not the learner's."""
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p or None,
        "repetition_penalty": sampling.repetition_penalty,
    }


def _holds(text: str, stop: Sequence[str]) -> bool:
    return any(end in text for end in stop)


class _AtText(StoppingCriteria):  # type: ignore[misc]
    """Ends a completion whose text holds one of some texts. Transformers' own would look into the prompt, too."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], *, start: int) -> None:
        self._tokenizer, self._stop, self._start = tokenizer, stop, start

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        texts = self._tokenizer.batch_decode(input_ids[:, self._start :])
        return torch.tensor([_holds(text, self._stop) for text in texts], device=input_ids.device)
