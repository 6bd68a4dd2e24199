"""Everything that is needed to repeat a study, as the report's last part says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from objectives.tasks.user_files import own_files, own_modules
from sweep.html_report.contents import Evidence
from sweep.html_report.study_toml import study_toml
from sweep.storage.attributes import SEED
from sweep.study.file import StudyFile
from sweep.study.verdict_section import VerdictSection

LEARNERS = {
    "trl": "TRL's GRPOTrainer (learner.name = trl), one trial at a time",
    "dpo": "TRL's DPOTrainer (learner.name = dpo), one trial at a time",
    "packed": "packed (learner.name = packed): up to {pack_size} trials at once",
}
HARDWARE = {
    "device": "accelerator",
    "device_memory_gib": "its memory in GiB",
    "cuda": "CUDA",
    "cpu": "CPU",
    "cores": "CPU cores",
    "threads": "torch threads",
}


def method(evidence: Evidence) -> dict[str, Any]:
    """What the template prints: rows of two, the commands, and the study file."""
    facts = evidence.summary.facts
    versions = {"python": facts.get("python"), **facts.get("versions", {})}
    return {
        "run": _run_rows(evidence),
        "rule": _rule_rows(evidence),
        "hardware": [(title, str(facts[key])) for key, title in HARDWARE.items() if key in facts],
        "versions": [(name, str(version)) for name, version in versions.items() if version],
        "commands": _commands(evidence),
        "study_toml": study_toml(evidence.config.model_dump(mode="json")),
        "own_code": ", ".join(_own_code(evidence)),
    }


def _run_rows(evidence: Evidence) -> list[tuple[str, str]]:
    config, facts, summary = evidence.config, evidence.summary.facts, evidence.summary
    rows = [
        ("base model", config.model.name),
        ("policy, engine", f"{facts.get('policy', config.model.policy)}, {facts.get('engine', config.model.engine)}"),
        ("learner", LEARNERS[config.learner.name].format(pack_size=facts.get("slots", config.learner.slots))),
        ("importance-sampling correction", config.learner.importance_sampling_correction),
        ("learning rate over a trial", config.learner.schedule),
        ("optimizer", config.learner.optimizer),
        ("objective", config.learner.objective),
        ("episode budget of a trial", _episodes(config)),
        ("held-out prompts", f"{config.task.held_out_prompts:,} at most{_sampled(config)}"),
        (
            "search",
            f"a design of {config.search.points_per_rank} points per rank{_with_sets(config)}, spread over the "
            f"ladders, the same for all; then TPE (Optuna); {config.search.trials} trials in all",
        ),
        ("search seeds", _span([trial.seed for trial in summary.trials if trial.seed is not None])),
    ]
    if evidence.confirmed is not None:
        first = min(trial.user_attrs[SEED] for trial in evidence.confirmation_trials)
        rows.append(("confirmation seeds", _span([first, first + evidence.confirmed.confirmation.scores.shape[1] - 1])))
    return rows


def _with_sets(config: StudyFile) -> str:
    return "" if config.space.target_modules is None else " and set of target modules"


def _episodes(config: StudyFile) -> str:
    budget, episodes = config.budget, config.worker_settings(Path()).episodes
    if not config.task.samples:
        pairs = budget.steps * budget.prompts_per_step
        return f"{pairs:,} preference pairs: {budget.steps} steps of {budget.prompts_per_step}"
    return f"{episodes:,} completions: {budget.steps} steps, {budget.prompts_per_step} prompts x {budget.group_size}"


def _sampled(config: StudyFile) -> str:
    return f", sampled at {config.learner.sampling}" if config.task.samples else ", whose pairs are ranked"


def _rule_rows(evidence: Evidence) -> list[tuple[str, str]]:
    verdict, confirmed = evidence.config.verdict, evidence.confirmed
    if verdict.design == "sequential":
        looks = (
            f"every seed from the third on, of at most {verdict.seeds}; the error is spent as by O'Brien and Fleming"
        )
    else:
        looks = f"{verdict.looks} declared"
        if confirmed is not None:
            looks += f"; taken at {', '.join(map(str, confirmed.looks)) or 'none'} seeds"
    return [
        _asked(verdict),
        ("confidence", f"{verdict.confidence:g}"),
        ("collapse limit", f"{verdict.collapse_limit:g}"),
        *((f"guard {guard.measure}", f"worse by {guard.worse_by:g} at most") for guard in verdict.guards),
        ("looks", looks),
    ]


def _asked(verdict: VerdictSection) -> tuple[str, str]:
    """What is as good as the best."""
    if verdict.keep is None:
        return "tolerance", f"{verdict.tolerance:g} of held-out reward"
    return "keep", f"{verdict.keep:g} of the best rank's gain over the base policy"


def _commands(evidence: Evidence) -> str:
    verdict, seeds = evidence.config.verdict, ""
    if verdict.design == "fixed" and evidence.confirmed is not None and evidence.confirmed.looks:
        seeds = f" --seeds {max(evidence.confirmed.looks)}"
    return (
        "sweep plan study.toml\n"
        "sweep run study.toml\n"
        f"sweep confirm study.toml{seeds}\n"
        "sweep report study.toml --output report.html"
    )


def _own_code(evidence: Evidence) -> list[str]:
    """Modules and files of the user's that the study file names."""
    task = evidence.config.task
    return [*(f"{module}.py" for module in own_modules(task)), *own_files(task)]


def _span(seeds: list[int]) -> str:
    if not seeds:
        return "none"
    low, high = min(seeds), max(seeds)
    return str(low) if low == high else f"{low} to {high}"
