"""A study as a notebook says it, cell by cell: `tests/test_api.py` runs it in a kernel and as a script."""

CELLS = [
    """
import sweep

LETTER = "a"


def count(text):
    return float(text.count(LETTER))
""",
    """
def letters(completions, **columns):
    return [count(completion) for completion in completions]


def rows():
    return [{"prompt": f"{a}>{b}{c}"} for a in "abcd" for b in "abcd" for c in "abcd"]


content = {
    "study": {"name": "cells"},
    "model": {"name": "shipped/tiny", "max_lora_rank": 16, "max_seq_length": 64, "gradient_checkpointing": "off"},
    "space": {"r": [1, 16], "alpha": [16], "learning_rate": [2e-3]},
    "task": {"name": "dataset", "data": rows, "reward": {"letters": letters, "short": lambda completions, **columns: [
        -0.01 * len(completion) for completion in completions]}, "held_out_prompts": 16, "max_completion_tokens": 5},
    "learner": {"name": "packed"},
    "budget": {"steps": 6, "prompts_per_step": 4, "group_size": 4},
    "search": {"trials": 2, "points_per_rank": 1},
    "verdict": {"seeds": 2},
}
study = sweep.Study(content)
study
""",
    "study.plan()",
    "study.run()",
    "study.confirm()",
    "study.trials[['phase', 'r', 'alpha', 'held_out']]",
    "study.figures['by-rank']",
    "study.report()",
]
