"""Rollouts from vLLM: one engine, loaded once, that serves a different adapter to every prompt."""

from __future__ import annotations

import copy
import gc
import os
from collections.abc import Sequence
from typing import Any, Self

# On a CPU the engine runs in the worker's own process: that is where its adapter arithmetic is replaced, and
# where a worker that is killed takes its engine along. vLLM reads these when it is imported.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import torch
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from objectives.engines.adapter_files import AdapterVersion
from objectives.engines.grouped_lora import RANKS
from objectives.engines.protocol import Completion, Sampling
from objectives.errors import EngineError
from objectives.settings.sections import ModelSettings

GROUPED_WRAPPER = "objectives.engines.grouped_lora.GroupedPunicaWrapperCPU"


def use_grouped_adapters() -> None:
    """Makes engines that start from here on, on a CPU, multiply once per adapter instead of once per token."""
    if current_platform.is_cpu():
        type(current_platform).get_punica_wrapper = classmethod(lambda cls: GROUPED_WRAPPER)


class VllmEngine:
    """Wraps a running vLLM `LLM`, whoever started it."""

    name = "vllm"

    def __init__(self, llm: Any, *, max_lora_rank: int) -> None:
        self._llm = llm
        self.max_lora_rank = max_lora_rank

    @classmethod
    def start(cls, settings: ModelSettings, *, max_lora_rank: int, max_loras: int = 1, max_num_seqs: int) -> Self:
        """Loads the base model into a new engine.

        Args:
            settings: Which model.
            max_lora_rank: The adapter ceiling, one of the values that vLLM permits.
            max_loras: Adapters that may take part in one batch.
            max_num_seqs: Sequences that may run at once.

        Raises:
            EngineError: where vLLM cannot load the model.
        """
        use_grouped_adapters()
        try:
            llm = LLM(
                model=settings.path,
                dtype=settings.number_format,
                quantization="bitsandbytes" if settings.load_in_4bit else None,
                enable_lora=True,
                max_lora_rank=max_lora_rank,
                max_loras=max_loras,
                max_model_len=settings.max_seq_length,
                max_num_seqs=max_num_seqs,
                max_num_batched_tokens=settings.batched_tokens,
                gpu_memory_utilization=settings.gpu_memory_utilization,
                enforce_eager=current_platform.is_cpu(),
                # Of a prompt in two parts, vLLM 0.32 samples after the first too, and takes that back by the offset of
                # the sequence's generator (`GPUModelRunner._bookkeeping_sync`). Generators of processors have none. It
                # warns that models are not tested so; what changes is that a prompt waits for a pass with room for it.
                enable_chunked_prefill=False if current_platform.is_cpu() else None,
                # The log-probabilities that the learner needs are those of the tempered distribution.
                logprobs_mode="processed_logprobs",
                # Unrestricted, vLLM also sets adapter memory aside for embeddings and logits.
                lora_target_modules=list(settings.target_modules),
                disable_log_stats=True,
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise EngineError(f"vLLM could not load {settings.name!r}: {error}") from error
        return cls(llm, max_lora_rank=max_lora_rank)

    def rollout(
        self,
        prompts: Sequence[Sequence[int]],
        adapters: Sequence[AdapterVersion | None],
        sampling: Sampling,
        seeds: Sequence[int],
    ) -> list[Completion]:
        """See `Engine.rollout`."""
        sampled = sampling.temperature > 0
        shared = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p if sampled else 1.0,
            top_k=sampling.top_k if sampled else 0,
            min_p=sampling.min_p if sampled else 0.0,
            repetition_penalty=sampling.repetition_penalty if sampled else 1.0,
            stop=list(sampling.stop),
            max_tokens=sampling.max_tokens,
            # vLLM adds the sampled token's own to as many of the likeliest: 0 asks for it alone.
            logprobs=0 if sampling.logprobs else None,
            # Texts are looked for in text.
            detokenize=bool(sampling.stop),
            # And such a text may be a special token's.
            skip_special_tokens=not sampling.stop,
            output_kind=RequestOutputKind.FINAL_ONLY,
            skip_clone=True,  # nobody else holds them
        )
        params = [copy.copy(shared) for _ in seeds]  # 0.6 us each; made anew, 20
        if sampled:
            for own, seed in zip(params, seeds, strict=True):
                own.seed = seed
        requests = {
            version.id: LoRARequest(version.name, version.id, str(version.path))
            for version in adapters
            if version is not None
        }
        RANKS.clear()
        RANKS.update({version.id: version.r for version in adapters if version is not None})
        try:
            outputs = self._llm.generate(
                [{"prompt_token_ids": list(ids)} for ids in prompts],
                params,
                lora_request=[None if version is None else requests[version.id] for version in adapters],
                use_tqdm=False,
            )
        except Exception as error:
            self._abandon()
            raise EngineError(f"vLLM failed a rollout: {error}") from error
        return [_completion(output.outputs[0]) for output in outputs]

    def _abandon(self) -> None:
        """Drops the requests of a failed rollout: vLLM 0.32 keeps them queued, and would fail the next one too."""
        engine = self._llm.llm_engine
        engine.abort_request(list(engine.output_processor.request_states), internal=True)

    def close(self) -> None:
        """Shuts the engine down and frees its memory."""
        engine = self._llm.llm_engine.engine_core
        engine.shutdown()
        del self._llm
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _completion(output: Any) -> Completion:
    token_ids, truncated = tuple(output.token_ids), output.finish_reason == "length"
    if output.logprobs is None:
        return Completion(token_ids=token_ids, truncated=truncated)
    logprobs = tuple(step[token].logprob for step, token in zip(output.logprobs, token_ids, strict=True))
    return Completion(token_ids=token_ids, logprobs=logprobs, truncated=truncated)
