"""The study file's sections that say what one trial is: model, task, learner and episode budget.

These are what a worker is given. They import without any GPU package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from objectives.lora import TARGET_MODULES
from objectives.settings.adapters import Initialisation, NoBias, NoDora, PolicyName, TargetModules, check_initialisation
from objectives.settings.dpo import DpoSettings
from objectives.settings.grpo import GrpoSettings
from objectives.settings.learner import LearnerSettings
from objectives.settings.number_formats import DType
from objectives.settings.section import Section
from objectives.settings.tasks import PreferencesSettings, TaskSettings

SHIPPED_MODELS = Path(__file__).parents[1] / "models"
MAX_SEQUENCES = 1024
"""Sequences that an engine runs at once, at most; the rest of a rollout waits its turn."""


class ModelSettings(Section):
    """The base model, how it becomes a policy, and which engine rolls out from it."""

    name: str = Field(min_length=1)
    """A hub id, a local folder, or `shipped/tiny`, the policy that comes with the project; `shipped/small` and
    `shipped/smollm2_135m` once `make policy-small` and `make smollm2` have brought them."""

    adapter: str | None = Field(default=None, min_length=1)
    """A first adapter, as after supervised warm-up: a folder that PEFT's `save_pretrained` wrote, looked for beside the
    study file, then in the working folder. It is merged into a copy of the base, and gains are counted from there."""

    device: Literal["any", "gpu"] = "any"
    """Where the study may run: `gpu` refuses to start on a machine without an NVIDIA GPU."""

    policy: PolicyName = "unsloth"
    """Who wraps the base model with an adapter: Unsloth, or plain PEFT. `whole`, every weight and no adapter, is what
    `sweep reference` sets."""

    engine: Literal["vllm", "transformers"] = "vllm"
    """Who samples completions: vLLM, or Transformers' `generate` (slow; needs no engine)."""

    max_lora_rank: int = Field(ge=1, le=512)
    """The wall: the engine sets memory aside for this rank when it loads. Rounded up to a rank vLLM permits."""

    target_modules: TargetModules = Field(default=TARGET_MODULES, min_length=1)
    """The linear modules that get an adapter; "all-linear", as in PEFT, stands for those of the default."""

    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of an adapter's inputs that training leaves out at random, by the trial's seed; rollouts and scores leave
    out none. With it, packed trials run a prompt once for each of its completions."""

    init_lora_weights: Initialisation = True
    """What an adapter begins with: B at zero (true), or directions that are taken out of the base: its largest singular
    ones (`pissa`) or the first of a QR decomposition (`olora`). Those are served as adapters of twice the rank, so that
    r is at most half of `max_lora_rank`; with `policy = "peft"`, `dtype = "float32"` and the TRL learner."""

    bias: NoBias = "none"
    """Biases that are trained: none. vLLM serves adapters without them only."""

    use_dora: NoDora = False
    """DoRA: never. vLLM serves plain adapters only."""

    load_in_4bit: bool = False
    """Keep the frozen base in 4 bits (bitsandbytes)."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the base model's weights and of the engine. `auto`: bfloat16 where the device computes it by
    itself, float16 on older GPUs, float32 on other processors. A study keeps what it began with."""

    max_seq_length: int = Field(default=1024, ge=8)
    """Tokens of prompt and completion together, at most."""

    gpu_memory_utilization: float = Field(default=0.5, gt=0, lt=1)
    """Share of the GPU's memory for the engine. On a CPU: share of the memory that must be free when it starts."""

    gradient_checkpointing: Literal["unsloth", "standard", "off"] = "unsloth"
    """Recompute activations in the backward pass to save memory. The packed learner, which uses Transformers' own for
    both, runs a group's prompt once without it, and with every completion with it."""

    @property
    def changes_base(self) -> bool:
        """Whether adapters begin with what is taken out of the base."""
        return self.init_lora_weights is not True

    @property
    def served_per_r(self) -> int:
        """How many ranks an engine serves for each of an adapter's own."""
        return 2 if self.changes_base else 1

    @property
    def highest_r(self) -> int:
        """The highest rank that leaves the engine's ceiling room to serve it."""
        return self.max_lora_rank // self.served_per_r

    @property
    def number_format(self) -> DType:
        """`dtype`, once it is known what `auto` comes to.

        Raises:
            ValueError: where it is still `auto`.
        """
        if self.dtype == "auto":
            raise ValueError("model.dtype = 'auto' has not been resolved for a device")
        return self.dtype

    @property
    def batched_tokens(self) -> int:
        """Tokens that the engine takes in one pass, at most."""
        # Fewer than one sequence's vLLM 0.32 refuses, unless it takes prompts in chunks.
        return max(8192, self.max_seq_length)

    @property
    def path(self) -> str:
        """What a loader is given: a folder for shipped models, else the name as it stands."""
        prefix, _, rest = self.name.partition("/")
        return str(SHIPPED_MODELS / rest) if prefix == "shipped" else self.name


class BudgetSettings(Section):
    """What every trial may spend: the same for all, so that ranks can be compared."""

    steps: int = Field(ge=1)
    """GRPO steps per trial."""

    prompts_per_step: int = Field(ge=1)
    """Prompts per step. Each is answered by one group of completions."""

    group_size: int = Field(ge=2)
    """Completions per prompt. Advantages compare completions within such a group."""

    @property
    def completions_per_step(self) -> int:
        """Completions sampled in one step."""
        return self.prompts_per_step * self.group_size

    def sequences(self, *, slots: int, held_out_prompts: int) -> int:
        """Sequences that the engine runs at once, at most: a step of all slots, or all prompts of a score."""
        return min(MAX_SEQUENCES, max(self.completions_per_step * slots, held_out_prompts))


class RunSettings(Section):
    """How a study is run on this machine. Nothing here says what a trial is, and all of it may change on the way."""

    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Worker processes, which run trials at the same time: `auto` is one per GPU or, without any, one per machine."""

    @field_validator("workers", mode="before")
    @classmethod
    def _count_of_workers(cls, workers: Any) -> Any:
        # Before Pydantic looks, which would tell what is wrong with it as either of the two.
        if workers != "auto" and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 1):
            raise ValueError(f"workers={workers!r}; allowed: 'auto', or a whole number from 1")
        return workers

    ray: str | None = None
    """The address of a Ray cluster whose machines run the workers, one per GPU; `auto` is the one that this machine
    belongs to. Default: this machine alone."""

    ray_without_token: bool = False
    """Run on a Ray cluster that asks for no token: whoever reaches it can run code there."""

    checkpoint_s: float = Field(default=60.0, gt=0)
    """Seconds between two checkpoints of a packed trial: what a crash may cost. Rarer where they would take more than
    2 % of the time."""

    keep_checkpoints: bool = False
    """Keep the last checkpoint of every confirmation trial beside its log: `sweep confirm --steps` goes on from it."""


class WorkerSettings(Section):
    """Everything a worker needs to know before its first trial."""

    study: str
    model: ModelSettings
    task: TaskSettings
    learner: LearnerSettings
    budget: BudgetSettings
    seed: int = Field(default=0, ge=0)
    run: RunSettings = RunSettings()
    log_folder: Path
    sources: dict[str, str] = Field(default_factory=dict)
    """The user's own files and functions by name, with their hashes: a trial does not go on with others."""
    keep_adapters: bool = False
    guarded_rewards: tuple[str, ...] = ()
    """Reward functions that the verdict looks at by themselves."""
    code_folders: tuple[Path, ...] = ()
    """Where the user's own modules and data files are looked for, in order."""
    by_value: bytes = Field(default=b"", repr=False)
    """Functions of a notebook, as `objectives.user_code.by_value` sends them."""

    @property
    def grpo(self) -> GrpoSettings:
        """The learner's section, in a study that trains by GRPO."""
        if isinstance(self.learner, DpoSettings):
            raise TypeError(f"learner.name = {self.learner.name!r} is not GRPO")
        return self.learner

    @property
    def rollouts(self) -> int:
        """Rollout batches that one trial samples."""
        return -(-self.budget.steps // self.learner.num_iterations)

    @property
    def episodes(self) -> int:
        """Completions that one trial may sample in training: its episode budget."""
        return self.rollouts * self.budget.completions_per_step

    @model_validator(mode="after")
    def _check_initialisation(self) -> WorkerSettings:
        check_initialisation(self.model, self.learner)
        return self

    @model_validator(mode="after")
    def _check_pairs(self) -> WorkerSettings:
        pairs = isinstance(self.task, PreferencesSettings)
        if pairs != isinstance(self.learner, DpoSettings):
            raise ValueError(
                f"task.name={self.task.name!r} with learner.name={self.learner.name!r}; allowed: 'preferences' with "
                "'dpo', and neither without the other"
            )
        if pairs and self.budget.group_size != 2:
            raise ValueError(
                f"budget.group_size={self.budget.group_size} with preference pairs; allowed: 2, the chosen completion "
                "and the rejected one"
            )
        if pairs and (self.learner.micro_batch_size or 2) % 2:
            raise ValueError(f"learner.micro_batch_size={self.learner.micro_batch_size} splits a pair; allowed: even")
        return self

    @model_validator(mode="after")
    def _check_micro_batch(self) -> WorkerSettings:
        size, completions = self.learner.micro_batch_size, self.budget.completions_per_step
        if size is not None and completions % size:
            raise ValueError(
                f"learner.micro_batch_size={size} must divide the {completions} completions of a step "
                "(budget.prompts_per_step x budget.group_size)"
            )
        return self
