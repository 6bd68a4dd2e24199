"""A child process: TRL's configuration of a study's trials, every field, as Unsloth makes it or as TRL does.

python -m tests.spoofed_cuda.configuration unsloth|trl < learners.json > fields.json
"""

import json
import sys

from tests.spoofed_cuda import card

card.insert(24)
BY_UNSLOTH = sys.argv[1] == "unsloth"
if BY_UNSLOTH:
    import objectives.policies.unsloth  # noqa: F401
from pathlib import Path
from types import SimpleNamespace

import torch

from objectives.learners import trl
from objectives.lora import LoraSpec
from objectives.settings.learner import TrlSettings
from objectives.settings.sections import BudgetSettings, ModelSettings, WorkerSettings
from objectives.settings.tasks import StringOpsSettings
from objectives.trial.messages import TrialSpec
from tests.spoofed_cuda.as_json import fields


def configured(settings):
    """What the learner configures a trial's trainer with."""
    settings = WorkerSettings(
        study="study",
        model=ModelSettings(name="shipped/tiny", max_lora_rank=8, dtype="bfloat16"),
        task=StringOpsSettings(name="string_ops"),
        learner=TrlSettings(**settings),
        budget=BudgetSettings(steps=4, prompts_per_step=4, group_size=4),
        log_folder=Path("logs"),
    )
    learner = trl.TrlLearner.__new__(trl.TrlLearner)
    learner._settings, learner._task = settings, SimpleNamespace(max_completion_tokens=16)
    learner._rewards = SimpleNamespace(weights=(1.0,))
    spec = TrialSpec(number=0, lora=LoraSpec(r=8, alpha=16), learning_rate=1e-5, seed=3, score_after=(4,))
    return fields(learner._arguments(spec, "out"))


assert torch.cuda.is_available()
assert ("Unsloth" in trl.GRPOTrainer.__name__) == BY_UNSLOTH
# TRL's own is told the same and no more: what the learner sets afterwards is there for Unsloth's sake.
if not BY_UNSLOTH:
    trl.restate = lambda learner, arguments: None
answer = [configured(settings) for settings in json.load(sys.stdin)]
card.answer(answer)
