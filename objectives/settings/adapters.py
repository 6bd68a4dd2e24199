"""What an adapter may be: its modules, its beginning, and what engines do not serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticKnownError

from objectives.lora import TARGET_MODULES
from objectives.settings.dpo import DpoSettings

if TYPE_CHECKING:
    from objectives.settings.learner import LearnerSettings
    from objectives.settings.sections import ModelSettings

WITH_DATA = ("eva", "corda", "lora_ga")
"""Initialisations of PEFT's that look at data first."""


def _all_linear(modules: Any) -> Any:
    return TARGET_MODULES if modules in ("all-linear", ["all-linear"], ("all-linear",)) else modules


def _no_bias(bias: Any) -> Any:
    if bias != "none":
        raise ValueError("vLLM serves no adapters with biases, so that rollouts would lack them; allowed: 'none'")
    return bias


def _no_dora(use_dora: Any) -> Any:
    if use_dora is not False:
        raise ValueError("vLLM serves no DoRA adapters, so that rollouts would be another policy's; allowed: false")
    return use_dora


def _explained(given: Any) -> Any:
    if given in WITH_DATA:
        raise ValueError(
            f"{given!r} looks at training data before the first step, which is no part of a trial's budget; "
            "allowed: true, 'pissa', 'olora'"
        )
    return given


def _wraps(policy: Any, info: ValidationInfo) -> Any:
    # Whoever writes a study is told; a stored one was made by `sweep reference` itself.
    if policy == "whole" and info.context:
        raise ValueError(
            "'whole' trains no adapter, so that there are no ranks: `sweep reference` sets it; "
            "allowed: 'unsloth', 'peft'"
        )
    if info.context and policy not in ("unsloth", "peft"):
        raise PydanticKnownError("literal_error", {"expected": "'unsloth' or 'peft'"})
    return policy


PolicyName = Annotated[Literal["unsloth", "peft", "whole"], BeforeValidator(_wraps)]
TargetModules = Annotated[tuple[str, ...], BeforeValidator(_all_linear)]
NoBias = Annotated[Literal["none"], BeforeValidator(_no_bias)]
NoDora = Annotated[Literal[False], BeforeValidator(_no_dora)]
Initialisation = Annotated[Literal[True, "pissa", "olora"], BeforeValidator(_explained)]
"""PEFT's `init_lora_weights`, as far as it is a question of rank alone."""


def check_initialisation(model: ModelSettings, learner: LearnerSettings) -> None:
    """Refuses an initialisation that changes the base where somebody else needs the base as it was.

    Raises:
        ValueError: saying who, and what is allowed.
    """
    if not model.changes_base:
        return
    given = f"model.init_lora_weights={model.init_lora_weights!r} changes the base model"
    if learner.name == "packed":
        raise ValueError(f"{given}, which the trials of a pack share; allowed with it: learner.name = 'trl'")
    if isinstance(learner, DpoSettings) or learner.beta > 0:
        raise ValueError(
            f"{given}, which the reference policy is; allowed with it: learner.name = 'trl' with learner.beta = 0"
        )
    if model.policy != "peft":
        raise ValueError(f"{given}, which Unsloth may share with its engine; allowed with it: model.policy = 'peft'")
    if model.load_in_4bit or model.dtype != "float32":
        raise ValueError(
            f"{given}, which fewer than 32 bits would round anew, to another policy than the engine's; allowed with "
            "it: model.dtype = 'float32', model.load_in_4bit = false"
        )
    if model.lora_dropout:
        raise ValueError(
            f"{given}, and model.lora_dropout={model.lora_dropout:g} would drop what was taken out of it; allowed with "
            "it: model.lora_dropout = 0"
        )
