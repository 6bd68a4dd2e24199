"""How completions are sampled: every engine from the very distribution that a study names."""

import math
from dataclasses import replace

import pytest
import torch

from objectives.engines.protocol import Sampling
from objectives.settings.learner import TrlSettings
from tests.test_engines import GREEDY, PROMPTS, adapter, engine, folder, ids  # noqa: F401 - fixtures

PLAIN = Sampling(temperature=1.3, max_tokens=6, logprobs=True)
WAYS = {
    "top_p": {"top_p": 0.6},
    "top_k": {"top_k": 3},
    "min_p": {"min_p": 0.2},
    "repetition_penalty": {"repetition_penalty": 1.8},
    "all": {"top_p": 0.9, "top_k": 5, "repetition_penalty": 1.2},
}


def distribution(logits, seen, sampling):
    """Log-probabilities of the next token, by the definitions."""
    seen = torch.tensor(sorted(set(seen)))
    penalty = sampling.repetition_penalty
    logits = logits.double().clone()
    logits[seen] = torch.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    logits /= sampling.temperature
    if sampling.top_k:
        logits[logits < logits.topk(sampling.top_k).values[-1]] = -math.inf
    probabilities, order = logits.softmax(0).sort(descending=True)
    before = probabilities.cumsum(0) - probabilities
    logits[order[before >= sampling.top_p]] = -math.inf
    probabilities = logits.softmax(0)
    logits[probabilities < sampling.min_p * probabilities.max()] = -math.inf
    return logits.log_softmax(0)


@pytest.mark.parametrize("way", WAYS)
def test_logprobs_are_those_of_the_distribution_that_was_asked_for(engine, adapter, ids, way):  # noqa: F811
    version, model = adapter
    sampling = replace(PLAIN, **WAYS[way])
    completions = engine.rollout(ids, [version] * len(ids), sampling, range(len(ids)))
    for prompt, completion in zip(ids, completions, strict=True):
        tokens = list(completion.token_ids)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + tokens])).logits[0]
        for i, (token, found) in enumerate(zip(tokens, completion.logprobs, strict=True)):
            expected = distribution(logits[len(prompt) + i - 1], prompt + tokens[:i], sampling)
            assert found == pytest.approx(expected[token].item(), abs=1e-3)
    plain = engine.rollout(ids, [version] * len(ids), PLAIN, range(len(ids)))
    assert [c.logprobs for c in completions] != [c.logprobs for c in plain]


def test_what_is_greedy_is_greedy_whatever_else_is_asked_for(engine, adapter, ids):  # noqa: F811
    version, _ = adapter
    greedy = engine.rollout(ids, [version] * len(ids), GREEDY, range(len(ids)))
    others = replace(GREEDY, top_p=0.1, top_k=2, min_p=0.5, repetition_penalty=2.0)
    assert [c.token_ids for c in engine.rollout(ids, [version] * len(ids), others, range(len(ids)))] == [
        c.token_ids for c in greedy
    ]


@pytest.mark.parametrize("sampling", [PLAIN, GREEDY])
def test_a_completion_ends_where_its_text_comes_to_a_stop(engine, ids, peft_policy, sampling):  # noqa: F811
    def texts(completions):
        return [peft_policy.tokenizer.decode(list(c.token_ids)) for c in completions]

    plain = texts(engine.rollout(ids, [None] * len(ids), sampling, range(len(ids))))
    stops = ("bc", plain[1][:2], plain[2][1])
    stopped = engine.rollout(ids, [None] * len(ids), replace(sampling, stop=stops), range(len(ids)))
    for text, completion in zip(texts(stopped), stopped, strict=True):
        found = [text.find(stop) + len(stop) for stop in stops if stop in text]
        assert not found or min(found) == len(text)
        assert completion.truncated == (not found and not text.endswith(peft_policy.tokenizer.eos_token))
        assert completion.logprobs is None or len(completion.logprobs) == len(completion.token_ids)
    assert sum(any(stop in text for stop in stops) for text in texts(stopped)) >= 2
    assert texts(stopped) != plain


def test_a_stop_in_the_prompt_is_none(engine, ids):  # noqa: F811
    whole = engine.rollout(ids, [None] * len(ids), GREEDY, range(len(ids)))
    assert all(">" in prompt for prompt in PROMPTS)
    assert whole == engine.rollout(ids, [None] * len(ids), replace(GREEDY, stop=(">",)), range(len(ids)))


def test_a_completion_that_is_cut_says_so(engine, ids, peft_policy):  # noqa: F811
    cut = engine.rollout(ids, [None] * len(ids), replace(GREEDY, max_tokens=2), range(len(ids)))
    whole = engine.rollout(ids, [None] * len(ids), replace(GREEDY, max_tokens=40), range(len(ids)))
    assert all(completion.truncated for completion in cut)
    assert not any(completion.truncated for completion in whole)
    assert {completion.token_ids[-1] for completion in whole} == {peft_policy.tokenizer.eos_token_id}


def test_studies_say_all_of_it():
    learner = TrlSettings(temperature=0.8, top_p=0.9, top_k=-1, min_p=0.1, repetition_penalty=1.1, stop="END")
    assert Sampling.of(learner, max_tokens=7) == Sampling(
        temperature=0.8, max_tokens=7, top_p=0.9, min_p=0.1, repetition_penalty=1.1, stop=("END",)
    )
    assert learner.sampling == "T=0.8, top_p=0.9, min_p=0.1, repetition_penalty=1.1, stop=['END']"
    assert Sampling.of(TrlSettings(), max_tokens=7) == Sampling(temperature=1.0, max_tokens=7)
