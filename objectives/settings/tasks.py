"""The study file's `[task]` section: what is trained on, how it is split, and what rewards it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from objectives.settings.section import Reference, RewardFunctions
from objectives.settings.task_common import CommonTaskSettings, RowsSettings, TextTaskSettings


class StringOpsSettings(CommonTaskSettings):
    """The shipped task: apply the function that a symbol names to four letters."""

    name: Literal["string_ops"]
    """The task: `string_ops`."""

    symbols: Literal[1, 4, 12] = 12
    """How many functions are in play: the more, the more capacity the task asks for."""


class DatasetSettings(RowsSettings):
    """Your own data: a JSON, CSV or Parquet file, a saved dataset, or one on the Hugging Face hub."""

    name: Literal["dataset"]
    """The task: `dataset`."""

    reward: RewardFunctions
    """Reward functions, each `module:function` with TRL's signature: every other column is a keyword. A list, or a
    table that names them, `{ accuracy = "my_rewards:right" }`."""

    @model_validator(mode="after")
    def _check_any(self) -> DatasetSettings:
        if not self.reward:
            raise ValueError("reward names no function; allowed: one or more")
        return self


class PreferencesSettings(RowsSettings):
    """Preference pairs of your own, for DPO: a prompt, the completion that was chosen and the one that was rejected.

    A trial's held-out score is the share of held-out pairs that it ranks right: whose chosen completion has gained more
    likelihood over the base policy than the rejected one. With `reward`, it is what those functions give completions
    that the engine samples.
    """

    name: Literal["preferences"]
    """The task: `preferences`."""

    chosen_column: str = "chosen"
    """The column with the completion that was chosen: text, or a list of chat messages."""

    rejected_column: str = "rejected"
    """The column with the one that was rejected."""

    @property
    def samples(self) -> bool:
        """Only where reward functions score completions; else pairs are ranked."""
        return bool(self.reward)


class Gsm8kSettings(TextTaskSettings):
    """Grade-school mathematics (Cobbe et al., 2021), answers checked as numbers."""

    name: Literal["gsm8k"]
    """The task: `gsm8k`."""

    data: str = "openai/gsm8k"
    """The hub id, or a local `.jsonl` with the columns `question` and `answer`."""

    held_out_split: str | None = None
    """The hub dataset's split, or the second file, to score on. Default: `test` on the hub; a share of a local file."""

    format_weight: float = Field(default=0.2, ge=0)
    """Weight of the reward for ending in `#### number`; the weight of a right answer is 1."""


class ReasoningGymSettings(TextTaskSettings):
    """Any procedural task of the package reasoning-gym, with its own scorer."""

    name: Literal["reasoning_gym"]
    """The task: `reasoning_gym`. Needs the extra `reasoning-gym`."""

    dataset: str = Field(min_length=1)
    """The task's name in that package, as `chain_sum`."""

    options: dict[str, Any] = Field(default={})
    """The task's own options, as `{ min_terms = 2 }`."""


class CustomTaskSettings(TextTaskSettings):
    """A task of your own: a class with the attributes of `objectives.tasks.protocol.Task`."""

    name: Reference
    """The task: `module:Class`. It is called as `Class(seed=..., **options)`."""

    options: dict[str, Any] = Field(default={})
    """Keywords for your class."""


TASK_NAMES = ("string_ops", "dataset", "preferences", "gsm8k", "reasoning_gym")


def _kind(content: Any) -> str | None:
    """Which settings a `[task]` section is read as, by its name."""
    name = content.get("name") if isinstance(content, dict) else getattr(content, "name", None)
    if not isinstance(name, str):
        return None
    return "custom" if ":" in name else name


TaskSettings = Annotated[
    Annotated[StringOpsSettings, Tag("string_ops")]
    | Annotated[DatasetSettings, Tag("dataset")]
    | Annotated[PreferencesSettings, Tag("preferences")]
    | Annotated[Gsm8kSettings, Tag("gsm8k")]
    | Annotated[ReasoningGymSettings, Tag("reasoning_gym")]
    | Annotated[CustomTaskSettings, Tag("custom")],
    Discriminator(
        _kind,
        custom_error_type="task_name",
        custom_error_message="name is missing or no task; allowed: " + ", ".join(TASK_NAMES) + ", module:Class",
    ),
]
"""Any `[task]` section; its `name` says which."""
