"""Rollouts from Transformers' `generate`: slow, but wherever Transformers runs there is no engine to install."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BatchEncoding, BitsAndBytesConfig

from objectives.adapters import AdapterVersion
from objectives.engines.end_tokens import end_tokens
from objectives.engines.protocol import Completion, Sampling
from objectives.errors import EngineError
from objectives.settings import ModelSettings


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
                quantization_config=BitsAndBytesConfig(load_in_4bit=True) if settings.load_in_4bit else None,
                device_map={"": self._device},
            )
            tokenizer = AutoTokenizer.from_pretrained(settings.path)
        except (ValueError, OSError) as error:
            raise EngineError(f"Transformers could not load {settings.name!r}: {error}") from error
        self._ends = end_tokens(tokenizer, self._base)
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
        for version in dict.fromkeys(adapters):
            rows = [i for i, adapter in enumerate(adapters) if adapter == version]
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
            self._base = model.unload()

    def _generate(self, model: Any, prompts: list[Sequence[int]], sampling: Sampling) -> list[Completion]:
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self._pad)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.tensor(list(prompt))
            mask[i, width - len(prompt) :] = 1
        greedy = sampling.temperature == 0
        output = model.generate(
            **BatchEncoding({"input_ids": ids, "attention_mask": mask}).to(self._device),
            max_new_tokens=sampling.max_tokens,
            do_sample=not greedy,
            # Transformers' own default of top_k=50 would sample from another distribution than the learner's.
            **({} if greedy else {"temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}),
            pad_token_id=self._pad,
            eos_token_id=sorted(self._ends),
            output_scores=True,
            return_dict_in_generate=True,
        )
        logprobs = torch.stack(output.scores, dim=1).log_softmax(-1)
        tokens = output.sequences[:, width:]
        chosen = logprobs.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return [self._until_end(t, p) for t, p in zip(tokens.tolist(), chosen.tolist(), strict=True)]

    def _until_end(self, tokens: list[int], logprobs: list[float]) -> Completion:
        end = next((i + 1 for i, token in enumerate(tokens) if token in self._ends), len(tokens))
        return Completion(token_ids=tuple(tokens[:end]), logprobs=tuple(logprobs[:end]))

    def close(self) -> None:
        """Frees the base model."""
        del self._base
        gc.collect()
