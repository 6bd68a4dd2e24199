"""What the `[task]` sections of several tasks share: prompts, rewards, and rows from files or the hub."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from objectives.settings.section import RewardFunctions, Section

TAKEN = frozenset({
    "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents", "max_length",
    "messages", "padding", "return_assistant_tokens_mask", "return_dict", "return_tensors", "tokenize",
    "tokenizer_kwargs", "tools", "truncation",
})  # fmt: skip
"""What `apply_chat_template` does not hand on to the template, or what a prompt decides."""


class CommonTaskSettings(Section):
    """What every task has."""

    train_prompts: int = Field(default=4096, ge=1)
    """Prompts to train on, at most."""

    held_out_prompts: int = Field(default=1024, ge=1)
    """Prompts that a trial is scored on, at most. Never trained on."""

    greedy: bool = True
    """Score the base policy, and each trial at its end, greedily as well. No verdict looks at it."""

    reward: RewardFunctions = ()
    """Reward functions of your own, each `module:function` with TRL's signature, instead of the task's: a list, or a
    table that names them, `{ accuracy = "my_rewards:right" }`. Modules are looked for beside the study file, then in
    the working folder."""

    reward_weights: tuple[float, ...] = ()
    """One weight for each function in `reward`, in the same order. Default: 1 each."""

    reward_timeout_s: float = Field(default=60.0, gt=0, le=86400)
    """Seconds that one call of a reward function may take."""

    max_prompt_tokens: int | None = Field(default=None, ge=1)
    """The longest prompt to use, in tokens: rows with longer ones are left out, and counted. Default: what leaves room
    for the longest completion in `model.max_seq_length`."""

    chat_template: str | None = Field(default=None, min_length=1)
    """A chat template instead of the model's own: a file, looked for beside the study file, then in the working folder,
    or the template itself."""

    chat_template_kwargs: dict[str, Any] = Field(default={})
    """What the chat template is given besides the messages, as `{ enable_thinking = false }`."""

    @property
    def samples(self) -> bool:
        """Whether completions are sampled at all."""
        return True

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each function in `reward`."""
        return self.reward_weights or (1.0,) * len(self.reward)

    def named_rewards(self) -> dict[str, str]:
        """The references in `reward`, by the name that each is reported as.

        That is its alias, or the function's name; where two functions share a name, each is its whole reference.
        """
        if isinstance(self.reward, dict):
            return dict(self.reward)
        own = [reference.partition(":")[2] for reference in self.reward]
        return {
            name if own.count(name) == 1 else reference: reference
            for name, reference in zip(own, self.reward, strict=True)
        }

    @field_validator("reward", mode="before")
    @classmethod
    def _one_reward(cls, reward: Any) -> Any:
        return (reward,) if isinstance(reward, str) else reward

    @field_validator("chat_template_kwargs")
    @classmethod
    def _check_kwargs(cls, given: dict[str, Any]) -> dict[str, Any]:
        if taken := sorted(given.keys() & TAKEN):
            raise ValueError(f"{taken[0]!r} is the tokenizer's own argument; allowed: names that the template reads")
        return given

    @model_validator(mode="after")
    def _check_rewards(self) -> CommonTaskSettings:
        if twice := [
            reference for reference in self.named_rewards().values() if list(self.reward).count(reference) > 1
        ]:
            raise ValueError(
                f"reward names {twice[0]!r} twice; to use it twice, name each use: "
                '{ first = "module:function", second = "module:function" }'
            )
        if self.reward_weights and len(self.reward_weights) != len(self.reward):
            raise ValueError(
                f"reward_weights has {len(self.reward_weights)} values for {len(self.reward)} functions in reward; "
                "allowed: one each, or none"
            )
        return self


class TextTaskSettings(CommonTaskSettings):
    """What every task has whose answers are free text."""

    held_out_prompts: int = Field(default=256, ge=1)
    """Prompts that a trial is scored on, at most. Never trained on."""

    max_completion_tokens: int = Field(default=256, ge=1)
    """The longest completion to sample. With the prompt it must fit in `model.max_seq_length`."""

    held_out_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the prompts that is held out, where no split is named for it. A prompt's text decides its side."""

    held_out_by: Literal["prompt", "row"] = "prompt"
    """What is held out: prompts, each with all of its rows; or rows, by the seed, for data in which one prompt comes
    again and again. A prompt may then be trained on and scored on."""


class RowsSettings(TextTaskSettings):
    """What every task has whose rows are your own."""

    data: str = Field(min_length=1)
    """A `.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet` or `.arrow` file, or a folder of `save_to_disk`, looked for
    beside the study file, then in the working folder; or `module:function`, code of yours that returns rows, or a pair
    of rows to train on and rows to score on; else a hub id. Texts may be compressed (`.gz`, `.bz2`, `.xz`)."""

    config: str | None = None
    """The hub dataset's configuration."""

    split: str = "train"
    """The hub dataset's split to train on."""

    held_out_split: str | None = None
    """The hub dataset's split, or the second file, to score on. Prompts that are in both are not trained on."""

    prompt_column: str = "prompt"
    """The column with the prompt: text, or a list of chat messages."""

    chat: bool = False
    """Wrap text prompts as one user message, so that the model's chat template applies. Lists of messages always
    are chat."""

    system_prompt: str | None = None
    """A system message to put before every chat prompt."""
