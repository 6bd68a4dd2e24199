"""Both learners and scoring see the same rows, columns, prompts and completions, whatever the data are like."""

import copy
import json

import pytest
from transformers import GenerationConfig

from objectives.engines.end_tokens import end_tokens
from objectives.models.make_random import make_random_model
from objectives.settings.sections import ModelSettings
from objectives.settings.tasks import DatasetSettings
from objectives.tasks.dataset import dataset_task
from tests.support.packed_trials import Engine
from tests.support.reward_ways import GROUP, HELD_OUT, PROMPTS, STEPS, Ways

ENDS = [4, 70, 90]
"""What ends a completion of the random model: the tokenizer's own token is none of them."""
N = 40
CASES = {
    "text": [{"prompt": f"say {n}", "answer": str(n)} for n in range(N)],
    "chat": [{"prompt": [{"role": "user", "content": f"say {n}"}], "answer": str(n)} for n in range(N)],
    "chat to be continued": [
        {"prompt": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": "I say"}], "answer": "x"}
        for n in range(N)
    ],
    "nested columns": [
        {"prompt": f"say {n}", "facts": {"a": n} if n % 2 else {"a": n, "b": [{"c": 1}, {"d": "x"}]}} for n in range(N)
    ],
    "missing values": [
        {"prompt": f"say {n}", **({"answer": n} if n % 2 else {"answer": None, "hint": 0.5})} for n in range(N)
    ],
    # Messages that are written as text are read back, so that one column holds both.
    "chat and text": [
        {"prompt": json.dumps([{"role": "user", "content": f"say {n}"}]) if n % 2 else f"say {n}"} for n in range(N)
    ],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory, unsloth_policy):
    """A random chat model whose generation config names several tokens that end a completion."""
    folder = make_random_model(tmp_path_factory.mktemp("agree") / "model")
    config = GenerationConfig.from_pretrained(folder)
    config.eos_token_id = ENDS
    config.save_pretrained(folder)
    return ModelSettings(
        name=str(folder), policy="peft", engine="transformers", max_lora_rank=8, dtype="float32", max_seq_length=256,
        gradient_checkpointing="off",
    )  # fmt: skip


@pytest.fixture(scope="module")
def policy(model):
    from objectives.policies.peft import PeftPolicy

    return PeftPolicy(model)


@pytest.fixture(scope="module")
def engine(model):
    from objectives.engines.transformers import TransformersEngine

    return TransformersEngine(model, max_lora_rank=8)


class Recorder:
    """A reward that keeps what it is called with."""

    def __init__(self):
        self.calls, self.states = [], []

    def __call__(self, prompts, completions, completion_ids, trainer_state, log_extra, log_metric, **columns):
        self.calls.append(copy.deepcopy((prompts, completions, completion_ids, columns)))
        self.states.append((trainer_state.global_step, trainer_state.max_steps, trainer_state.epoch))
        return [float(sum(ids) % 7) for ids in completion_ids]

    def rows(self):
        """The rows of all completions, as they were told."""
        return [
            {"prompt": prompt, **{key: values[i] for key, values in columns.items()}}
            for prompts, _, _, columns in self.calls
            for i, prompt in enumerate(prompts)
        ]


@pytest.mark.parametrize("case", CASES)
def test_learners_and_scoring_see_the_same(case, policy, engine, model, tmp_path, capfd):
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, CASES[case])))
    settings = DatasetSettings(
        name="dataset", data="rows.jsonl", reward=["r:f"], max_completion_tokens=12, held_out_share=0.4
    )
    task = dataset_task(settings, seed=0, folders=[tmp_path])
    seen = {way: Recorder() for way in ("trl", "packed", "scored")}
    asked = {}
    with capfd.disabled():
        for way, recorder in seen.items():
            asked[way] = Engine(engine)
            ways = Ways(policy=policy, engine=asked[way], model=model, task=task, folder=tmp_path)
            outcome = ways.outcome(way, recorder)
            assert not isinstance(outcome, str), outcome
    train, held_out = task.train_rows(20), task.held_out_rows(HELD_OUT)
    for way in ("trl", "packed"):
        assert all(row in train for row in seen[way].rows()[: PROMPTS * GROUP])
    assert seen["trl"].calls[0] == seen["packed"].calls[0]
    assert asked["trl"].calls[0][0] == asked["packed"].calls[0][0]
    assert seen["trl"].states == [pytest.approx(state) for state in seen["packed"].states]
    # Two steps, a score at the end, and the base policy's.
    assert [step for step, *_ in seen["packed"].states] == [0, 1, 0, 0, 0, 0]
    assert seen["scored"].states == [(0, STEPS, 0.0)] * 2
    assert seen["scored"].rows() == held_out * 2  # sampled, then greedy
    # Training ends with a score: on the same rows again.
    assert seen["trl"].rows()[-HELD_OUT:] == seen["packed"].rows()[-HELD_OUT:] == held_out
    for recorder in seen.values():
        for prompts, completions, completion_ids, _ in recorder.calls:
            assert [isinstance(text, str) for text in completions] == [isinstance(prompt, str) for prompt in prompts]
            # Nothing comes after a token that ends a completion.
            assert all(not set(ids[:-1]) & {*ENDS, 1} and 1 <= len(ids) <= 12 for ids in completion_ids)
    every = [ids for recorder in seen.values() for _, _, calls, _ in recorder.calls for ids in calls]
    assert {ids[-1] for ids in every if len(ids) < 12} > {ENDS[1]}


def test_every_token_that_ends_a_completion_is_known(policy):
    assert end_tokens(policy.tokenizer, policy.base) == {1, *ENDS}
