# ruff: noqa: E501 - a table reads better with long lines
"""What users get wrong: each case a command, its exit code, and what its answer must name.

A case's files are written into an empty folder first. `tiny.toml` there is the shipped study; `EDIT` makes the case's own
study file from it by setting keys, or by dropping those that are None.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field

from sweep.study.reading import find_study

SHIPPED = tomllib.loads(find_study("tiny").read_text())
REWARDS = "def right(completions, **columns):\n    return [1.0 for _ in completions]\n"
ROWS = '{"prompt": "A:abcd>"}\n' * 3 + '{"prompt": "B:abcd>"}\n{"prompt": "C:abcd>"}\n'
DATASET = {"name": "dataset", "data": "rows.jsonl", "reward": ["rewards:right"]}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One mistake."""

    name: str
    command: tuple[str, ...] = ("run", "study.toml")
    edit: dict[str, object] = field(default_factory=dict)
    files: dict[str, str | bytes] = field(default_factory=dict)
    code: int = 2
    says: tuple[str, ...] = ()


def key(name, value, *says, **more):
    """A study whose `name` is set to `value`, or dropped."""
    return Case(name=f"{name}={value!r}"[:60], edit={name: value}, says=says, **more)


def override(text, *says):
    """The shipped study with `--set text`."""
    return Case(name=f"--set {text}", command=("run", "tiny", "--set", text), says=says)


def flags(*arguments, says, code=2):
    """A command line of its own."""
    return Case(name=" ".join(arguments), command=arguments, says=says, code=code)


def raw(name, content, *says):
    """A study file with this very content."""
    return Case(name=f"file: {name}", files={"study.toml": content}, says=says)


def task(name, says, files, **changes):
    """A dataset study with these files beside it."""
    made = {key: value for key, value in {**DATASET, **changes}.items() if value is not None}
    return Case(name=f"task: {name}", edit={"task": made}, files=files, says=says)


SCRIPT = "def right(completions, **columns): ...\n\n{}\n"
CHAT = "".join(f'{{"prompt": [{{"role": "user", "content": "{n}"}}]}}\n' for n in range(100))
MANY = "".join(f'{{"prompt": "A:ab{x}{y}>", "answer": "x"}}\n' for x in "abcdefghij" for y in "abcdefghij")


def fit(name, says, files=None, **changes):
    """A dataset study that would run, but for what is changed."""
    files = {"rewards.py": REWARDS, "rows.jsonl": MANY} | (files or {})
    return task(name, says, files, **{"max_completion_tokens": 5} | changes)


STUDY_FILES = [
    raw("empty", "", "study: missing", "model: missing"),
    raw("not TOML", "[study\nname = 1", "not TOML"),
    raw("not text", b"\xff\xfe\x00study", "cannot be read"),
    raw("a list", "study = [1, 2]", "study"),
    raw("nesting without end", "x = " + "[" * 5000, "not TOML"),
    raw("a number without end", "x = " + "9" * 5000, "not TOML"),
    Case(name="a name without end", command=("run", "a" * 5000 + ".toml"), says=("no study 'aaa",)),
    raw("a key twice", "[study]\nname = 'a'\nname = 'b'", "not TOML"),
    Case(
        name="no file", command=("run", "nowhere.toml"), says=("no study 'nowhere.toml'", "allowed: a path to a .toml")
    ),
    Case(name="a misspelt study", command=("run", "tinny"), says=("did you mean 'tiny'",)),
    Case(name="a folder", command=("run", "."), says=("no study '.'",)),
    key("study.name", None, "study.name: missing"),
    key("study.name", "a b", "study.name", "'a b'"),
    key("study.name", "", "study.name"),
    key("study.name", 3, "study.name", "3"),
    key("study.seed", -1, "study.seed", "greater than or equal to 0", "-1"),
    key("study.sede", 1, "did you mean 'seed'"),
    key("model.name", "", "model.name"),
    key("model.max_lora_rank", 0, "model.max_lora_rank", "0"),
    key("model.max_lora_rank", 513, "model.max_lora_rank", "512", "513"),
    key("model.max_lora_rank", 32, "r=64 exceeds max_lora_rank=32"),
    key("model.max_lora_rank", "sixty-four", "model.max_lora_rank", "'sixty-four'"),
    key("model.policy", "usloth", "model.policy", "'unsloth' or 'peft'", "'usloth'"),
    key("model.engine", "sglang", "model.engine", "'vllm' or 'transformers'"),
    key("model.dtype", "fp8", "model.dtype", "'fp8'"),
    key("model.gpu_memory_utilization", 1.5, "gpu_memory_utilization", "1.5"),
    key("model.max_seq_length", 4, "max_seq_length", "4"),
    key("model.target_modules", [], "target_modules"),
    key(
        "model.target_modules",
        ["q_proj", "qkv_proj"],
        "target module 'qkv_proj' is not in a llama model; allowed: q_proj",
    ),
    key("task.reward", {"x": "no colon"}, "reward", "allowed: module:function", "no colon"),
    key("model.max_rank", 8, "unknown key", "did you mean 'max_lora_rank'"),
    key("space.r", [], "space.r"),
    key("space.r", [4, 1], "space.r", "ascending order"),
    key("space.r", [1, 1], "space.r", "ascending order"),
    key("space.r", [0, 1], "space.r", "above 0"),
    key("space.r", [1, 128], "r=128 exceeds max_lora_rank=64"),
    key("space.r", "1,4", "space.r"),
    key("space.r", [1.5], "space.r", "1.5"),
    key("space.alpha", [64, 128], "alpha=128 exceeds max_lora_rank=64", "space.alpha_above_ceiling=true"),
    key("space.learning_rate", None, "space.learning_rate: missing"),
    key("space.learning_rate", [float("inf")], "learning_rate", "finite"),
    key("space.learning_rate", [0.0], "learning_rate", "above 0"),
    key("space.lr", [1e-3], "space.lr: unknown key; did you mean 'learning_rate'"),
    key("task", None, "task: missing"),
    key("task.name", None, "task.name is missing or no task", "string_ops"),
    key("task.name", "gsm9k", "allowed: string_ops, dataset, preferences, gsm8k", "'gsm9k'"),
    key("task.symbols", 5, "task", "symbols", "5"),
    key("task.simbols", 4, "unknown key"),
    key("task.held_out_prompts", 0, "held_out_prompts", "0"),
    key("task.reward", ["no colon"], "reward", "no colon"),
    key("learner.name", "ppo", "learner.name", "'ppo'"),
    key("learner.loss_type", "gspo", "learner.loss_type", "'gspo'"),
    key("learner.temperature", 0, "learner.temperature", "greater than 0"),
    key("learner.beta", -0.1, "learner.beta"),
    key("task.reward_timeout_s", 1e12, "task", "reward_timeout_s"),
    key("learner.micro_batch_size", 7, "micro_batch_size=7 must divide the 128 completions"),
    key("budget.steps", 0, "budget.steps", "0"),
    key("budget.steps", 1.5, "budget.steps", "1.5"),
    key("budget.group_size", 1, "budget.group_size", "greater than or equal to 2"),
    key("search.trials", 0, "search.trials"),
    key("verdict.keep", 1, "verdict.keep", "less than 1"),
    key("verdict.keep", -0.5, "verdict.keep", "greater than 0"),
    key("verdict", {"keep": 0.9, "tolerance": 0.1}, "keep=0.9 and tolerance=0.1 say one thing in two ways"),
    key("verdict", {"tolerance": 0}, "verdict.tolerance", "greater than 0"),
    key("search.points_per_rank", 13, "exceeds the 12 combinations", "allowed: 1 to 12"),
    key("serch.trials", 3, "serch: unknown key", "did you mean 'search'"),
]

OVERRIDES = [
    override("steps=3", "allowed: section.key=value"),
    override("budget.steps", "allowed: section.key=value"),
    override("budget.=3", "allowed: section.key=value"),
    override("budget.steps=", "allowed: section.key=value"),
    override("budget.steps=many", "budget.steps", "'many'"),
    override("budget.stepz=3", "did you mean 'steps'"),
    override("space.r=[96]", "r=96 exceeds max_lora_rank=64"),
    override("space.r=[1", "space.r"),
    override("learner.beta=inf", "learner.beta", "finite"),
    override("space.r=" + "[" * 3000, "space.r"),
    override("model.max_lora_rank=8", "r=64 exceeds max_lora_rank=8"),
]

FLAGS = [
    flags("run", says=("Missing argument",)),
    flags("run", "tiny", "extra", says=("extra",)),
    flags("run", "tiny", "--trials", "0", says=("--trials",)),
    flags("run", "tiny", "--trials", "many", says=("--trials", "valid integer")),
    flags("run", "tiny", "--trails", "3", says=("--trails",)),
    flags("frobnicate", says=("frobnicate",)),
    flags("report", "tiny", "-o", "rank-sweep.db", says=("the report is HTML; allowed: a name that ends in .html",)),
    flags("verdict", "tiny", "-o", "tiny.pdf", says=("the report is HTML; allowed: a name that ends in .html",)),
    flags("show", says=("Missing argument",)),
    flags("show", "no.toml", says=("no study 'no.toml'",)),
    flags("try-reward", "tiny", "--prompts", "1", says=("--prompts",)),
    flags("plan", "tinny", says=("did you mean 'tiny'",)),
    flags("plan", "tiny", "--device", "H9000", says=("H9000",)),
    flags("lora", "nowhere/at/all", "--max-lora-rank", "8", says=("nowhere/at/all",)),
    flags("lora", "shipped/tiny", "--max-lora-rank", "0", says=("--max-lora-rank",)),
    flags("lora", "shipped/tiny", "--max-lora-rank", "1000", says=("1000",)),
]

STORAGES = [
    flags(
        "run",
        "tiny",
        "--storage",
        "mine.db",
        says=("cannot open 'mine.db': not a URL", "as in sqlite:///mine.db"),
        code=4,
    ),
    flags("run", "tiny", "--storage", "sqlite:////no/such/folder/x.db", says=("cannot open",), code=4),
    flags("run", "tiny", "--storage", "oracle9://x/y", says=("cannot open oracle9",), code=4),
    flags("run", "tiny", "--storage", "postgresql://me:secret@127.0.0.1:9/x", says=("cannot open postgresql",), code=4),
    flags(
        "run", "tiny", "--storage", "postgresql://127.0.0.1:9/x?user=me&password=secret", says=("cannot open",), code=4
    ),
    flags("show", "tiny", says=("no storage at rank-sweep.db",), code=4),
    flags("report", "tiny", "--storage", "sqlite:///none.db", says=("no storage at none.db",), code=4),
]

MODELS = [
    key("model.name", "./nowhere", "model.name: no folder './nowhere'"),
    key("model.name", "/no/such/model", "model.name: no folder"),
    key("model.name", "shipped/huge", "allowed: shipped/small, shipped/smollm2_135m, shipped/tiny"),
    Case(
        name="an empty model folder", edit={"model.name": "model"}, files={"model/README": ""}, says=("no config.json",)
    ),
    Case(
        name="a model config that is no JSON",
        edit={"model.name": "model"},
        files={"model/config.json": "{"},
        says=("cannot be read",),
    ),
    Case(
        name="a model config that is a list",
        edit={"model.name": "model"},
        files={"model/config.json": "[]"},
        says=("no model_type",),
    ),
    Case(
        name="a model config without a type",
        edit={"model.name": "model"},
        files={"model/config.json": "{}"},
        says=("no model_type",),
    ),
    key("model.max_seq_length", 512, "exceeds the 128 positions that shipped/tiny has", "allowed: up to 128"),
    Case(name="a GPU study without a GPU", edit={"model.device": "gpu"}, says=("needs an NVIDIA GPU",)),
]

WITH_REWARD = {"rewards.py": REWARDS}
DATA = [
    task("no data file", ("no file 'rows.jsonl'",), WITH_REWARD),
    task("no data", ("task", "data", "missing"), WITH_REWARD, data=None),
    task("no reward", ("task", "reward", "missing"), {"rows.jsonl": ROWS}, reward=None),
    task("no module", ("no module 'rewards'",), {"rows.jsonl": ROWS}),
    task("no function", ("defines no 'wright'", "did you mean 'right'"), {**WITH_REWARD, "rows.jsonl": ROWS}, reward=["rewards:wright"]),
    task("a module that does not parse", ("cannot be read",), {"rewards.py": "def right(:", "rows.jsonl": ROWS}),
    task("weights of another number", ("reward_weights has 2 values for 1",), WITH_REWARD, reward_weights=[1.0, 2.0]),
    task("a line that is no JSON", ("rows.jsonl, line 2: not JSON",), {**WITH_REWARD, "rows.jsonl": '{"prompt": "a"}\n{oops'}),
    task("a line that is no object", ("line 1: list",), {**WITH_REWARD, "rows.jsonl": "[1]"}),
    task("no prompt column", ("row 1 has no column 'prompt'; it has: text",), {**WITH_REWARD, "rows.jsonl": '{"text": "a"}'}),
    task("a module that is the command itself", ("no module '__main__'",), {"rows.jsonl": ROWS}, reward=["__main__:x"]),
    task("a column that TRL has", ("column 'completions' has a name that TRL",), {**WITH_REWARD, "rows.jsonl": '{"prompt": "a", "completions": 1}'}),
    task("a line that nests without end", ("line 1: not JSON",), {**WITH_REWARD, "rows.jsonl": "[" * 100_000}),
    task("an empty prompt", ("row 1 has nothing in column 'prompt'",), {**WITH_REWARD, "rows.jsonl": '{"prompt": ""}'}),
    task("an empty file", ("holds no rows",), {**WITH_REWARD, "rows.jsonl": "\n"}),
    task("bytes", ("cannot be read",), {**WITH_REWARD, "rows.jsonl": b"\xff\xfe\x00"}),
    task("a ragged CSV", ("line 2: more or fewer fields",), {**WITH_REWARD, "rows.csv": "prompt,b\nx\n"}, data="rows.csv"),
    task("no Parquet", ("cannot be read as Parquet",), {**WITH_REWARD, "rows.parquet": "x"}, data="rows.parquet"),
    task("another kind of file", ("cannot read .txt files",), {**WITH_REWARD, "rows.txt": "x"}, data="rows.txt"),
    task("too few rows", ("fewer than budget.prompts_per_step=16",), {**WITH_REWARD, "rows.jsonl": ROWS}, held_out_share=0.5),
    task("no hub id", ("neither a .jsonl",), WITH_REWARD, data="a/b/c"),
    fit("a script that reads its command line", ("rewards.py runs a script: line 3 reads a command line; move the functions",), {"rewards.py": SCRIPT.format("argparse.ArgumentParser().parse_args()")}),
    fit("a script that trains", ("runs a script: line 3 trains",), {"rewards.py": SCRIPT.format("GRPOTrainer(model='x').train()")}),
    fit("a script whose main trains", ("runs a script: line 5 trains",), {"rewards.py": "def main():\n    trainer.train()\ndef right(completions, **columns): ...\n\nmain()"}),
    fit("a module that imports a script", ("train.py runs a script: line 3 trains",), {"rewards.py": "from train import right", "train.py": SCRIPT.format("trainer.train()")}),
    fit("an exported notebook", ("runs a script: line 3 is an exported notebook",), {"rewards.py": SCRIPT.format("get_ipython().system('pip install x')")}),
    fit("an import of Unsloth's model", ("runs a script: line 3 loads a model to train",), {"rewards.py": SCRIPT.format("m, t = FastLanguageModel.from_pretrained('x')")}),
    fit("a reward for one completion", ("reward right asks for 'completion', and there is no such column ('completions' are passed, all of a call in one list)",), {"rewards.py": "def right(completion, **columns): ..."}),
    fit("a column that is not there", ("reward right asks for 'target', and there is no such column; the columns are: answer",), {"rewards.py": "def right(completions, target, **columns): ..."}),
    fit("parameters by position", ("reward right takes 'prompts', 'completions' by position alone, and TRL passes everything by keyword",), {"rewards.py": "def right(prompts, completions, /, **columns): ..."}),
    fit("a file for a module", ("names a file; allowed: module:function, as in rewards:right",), reward=["rewards.py:right"]),
    fit("a column of pictures", ("column 'images' has a name that TRL reads images from; drop or rename it",), {"rows.jsonl": MANY.replace('"answer"', '"images"')}),
    fit("half a character", ("the model's tokenizer refuses the prompt",), {"rows.jsonl": MANY + '{"prompt": "A:\\ud83d>", "answer": "x"}'}),
    fit("no room for other columns", ("reward right does not take 'prompts', ", "end its parameters with **kwargs"), {"rewards.py": "def right(completions, answer): ..."}),
    fit("a reward twice", ("reward names 'rewards:right' twice; to use it twice, name each use",), reward=["rewards:right", "rewards:right"]),
    fit("an alias that is none", ("task", "reward", "a b"), reward={"a b": "rewards:right"}),
    fit("an alias of nothing", ("no module 'rewards2'",), reward={"a": "rewards2:right"}),
    fit("no rewards at all", ("reward names no function",), reward=[]),
    fit("chat for a model without a chat template", ("has chat prompts, and the model's tokenizer has no chat template",), {"rows.jsonl": CHAT}),
    fit("text as chat for a model without a chat template", ("has chat prompts, and the model's tokenizer has no chat template",), chat=True),
    fit("only long prompts", ("no training prompt is short enough", "longer than 3 tokens; the longest has 7"), max_prompt_tokens=3),
    fit("prompts that cannot fit", ("max_prompt_tokens=60 and completions of 5 tokens exceed model.max_seq_length=64; allowed: up to 59",), max_prompt_tokens=60),
    fit("completions that leave no room", ("completions of 64 tokens leave no room for a prompt in model.max_seq_length=64",), max_completion_tokens=64),
    fit("one prompt again and again", ("all 100 rows are equal", "held_out_by = 'row' holds out rows by the seed"), {"rows.jsonl": '{"prompt": "A:abcd>"}\n' * 100}),
    fit("a column of several kinds", ("column 'answer' holds text in row 1 and a number in row 2; allowed: one kind per column",), {"rows.jsonl": '{"prompt": "A:a>", "answer": "x"}\n{"prompt": "A:b>", "answer": 1}'}),
    fit("another encoding", ("cannot be read as utf-8 text", "save it as UTF-8"), {"rows.jsonl": "caf\xe9".encode("latin-1")}),
    fit("a broken archive", ("rows.jsonl.gz: cannot be read",), {"rows.jsonl.gz": "x"}, data="rows.jsonl.gz"),
    fit("a folder without data", ("is a folder, and no data set was saved to it",), {"saved/readme.md": "x"}, data="./saved"),
    fit("a split of a file", ("held_out_split='test' is no file, and rows.jsonl has no splits",), held_out_split="test"),
    Case(
        name="GSM8K rows without numbers",
        edit={"task": {"name": "gsm8k", "data": "rows.jsonl"}},
        files={"rows.jsonl": '{"question": "q", "answer": "many"}'},
        says=("row 1: no number in answer 'many'",),
    ),
    Case(
        name="a reasoning-gym task that is none",
        edit={"task": {"name": "reasoning_gym", "dataset": "chain_summ"}},
        says=("no task 'chain_summ'", "did you mean 'chain_sum'"),
    ),
    Case(name="a task of their own that is not there", edit={"task": {"name": "mine:Task"}}, says=("no module 'mine'",)),
]  # fmt: skip

CASES = [*STUDY_FILES, *OVERRIDES, *FLAGS, *STORAGES, *MODELS, *DATA]
