"""What the documentation says is done as it is written, and is what the code says."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import studies
from sweep.statistics import simulate
from sweep.statistics.assessment import Outcome
from sweep.storage import attributes
from sweep.study.reference import reference_markdown

STUDIES = Path(studies.__path__[0])
ROOT = STUDIES.parent
DOCS = [f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))]
PAGES = ["README.md", "CONTRIBUTING.md", *DOCS]
PLACEHOLDER = re.compile(r"NAME|FOLDER")


def text(page):
    return (ROOT / page).read_text()


def blocks(page, language):
    """The page's blocks of code in a language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text(page), re.MULTILINE | re.DOTALL)
    return [body.strip() for named, body in found if named == language]


def code(page):
    """All blocks that hold commands."""
    return "\n".join(blocks(page, "") + blocks(page, "bash"))


def test_the_reference_of_study_keys_is_fresh():
    assert (STUDIES / "keys.md").read_text() == reference_markdown(), "run: python -m sweep.study.reference"


def test_every_key_has_a_description():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", reference_markdown(), re.MULTILINE)
    assert len(rows) > 60
    assert [key for key, description in rows if not description.strip()] == []


@pytest.mark.parametrize("page", [*PAGES, "studies/own_reward.md"])
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", text) + re.findall(r'src="(?!https?://)([^"]+)"', text)
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    named = re.findall(
        r"(?<![\w/.-])(?:sweep|objectives|studies|tests|benchmarks|docs|requirements)/[\w./-]*\w/?", text(page)
    )
    missing = {path for path in named if not PLACEHOLDER.search(path) and not (ROOT / path).exists()}
    assert missing == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_a_page_names_is_there(page):
    words = re.findall(r"(?<![\w/.:-])(?:sweep|objectives|benchmarks)(?:\.\w+)+", text(page))
    assert [word for word in words if not is_there(word)] == []


def is_there(dotted):
    """Whether a module is there, and what its name is followed by is written in it."""
    *parents, last = dotted.split(".")
    for end in (f"{last}.py", f"{last}/__init__.py"):
        if ROOT.joinpath(*parents, end).is_file():
            return True
    if ROOT.joinpath(*parents).is_dir():
        parents.append("__init__")
    module = ROOT.joinpath(*parents).with_suffix(".py")
    if module.is_file():
        return re.search(rf"\b{last}\b", module.read_text()) is not None
    # The attribute of a class, as in `sweep.results.Results.trials`.
    return len(parents) > 1 and is_there(".".join(parents))


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_gives_is_one(page):
    from typer.main import get_command

    from sweep.cli.app import app

    main = get_command(app)
    lines = re.findall(r"^(?:\.venv/bin/)?(sweep [^#\n]+)", code(page), re.MULTILINE)
    found = [line.split() for line in lines + re.findall(r"`(sweep (?!COMMAND)[^`]+)`", text(page))]
    for _, name, *words in found:
        command = main if name.startswith("-") else main.commands[name]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        assert {word for word in (name, *words) if word.startswith("-")} <= known, (name, words)


@pytest.mark.parametrize("page", PAGES)
def test_every_target_of_make_that_a_page_gives_is_one(page):
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    given = re.findall(r"^make ([a-z][\w-]*)", code(page), re.MULTILINE) + re.findall(
        r"`make ([a-z][\w-]*)", text(page)
    )
    assert set(given) <= targets


@pytest.mark.parametrize("page", DOCS)
def test_pages_keep_to_120_columns(page):
    assert [line for line in text(page).splitlines() if len(line) > 120 and line.count("%") < 3] == []


def test_the_index_links_every_page():
    linked = set(re.findall(r"\]\((\w+\.md)\)", text("docs/README.md")))
    assert linked == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


def test_storage_keys_are_those_of_the_code():
    source = (ROOT / "sweep/storage/attributes.py").read_text()
    stored = {
        (kind, key) for key, kind in re.findall(r'^[A-Z_]+ = "(\w+)"\n"""(Study|Trial) attribute', source, re.MULTILINE)
    }
    assert {key for _, key in stored} == {
        value for name, value in vars(attributes).items() if name.isupper() and isinstance(value, str)
    }
    parts = re.findall(r"^## Of a (study|trial)\n(.*?)(?=^## )", text("docs/storage.md"), re.MULTILINE | re.DOTALL)
    told = [(kind.title(), key) for kind, part in parts for key in re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)]
    assert sorted(told) == sorted(stored)


def test_layers_are_those_of_the_contracts():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = ["\n".join(contract["layers"]) for contract in contracts if "containers" in contract]
    assert len(layers) == 2
    assert [block for block in layers if block not in blocks("docs/architecture.md", "")] == []


def test_outcomes_are_those_of_the_code():
    told = re.findall(r"^\| `(\w+)` \|", text("docs/verdict.md"), re.MULTILINE)
    assert told == [str(outcome) for outcome in Outcome]


def test_the_simulations_table_is_fresh(capsys):
    simulate.main([])
    assert capsys.readouterr().out.strip() in blocks("docs/verdict.md", "")


def test_storage_is_read_as_written(tmp_path, monkeypatch, capsys):
    shutil.copy(ROOT / "tests/data/gains.db", tmp_path / "rank-sweep.db")
    monkeypatch.chdir(tmp_path)
    by_optuna, by_us = blocks("docs/storage.md", "python")
    exec(by_optuna, {})
    assert len(capsys.readouterr().out.splitlines()) > 2
    exec(by_us, {})
    assert "confirm" in capsys.readouterr().out


@pytest.mark.long
def test_python_runs_as_written(tmp_path):
    example, _, results = blocks("docs/python.md", "python")
    (tmp_path / "example.py").write_text(example)
    (tmp_path / "results.py").write_text(results)
    outputs = {}
    for script in ("example.py", "results.py"):
        command = [sys.executable, script]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr
        outputs[script] = done.stdout
    assert "study letters: held-out reward by rank" in outputs["example.py"]
    assert "2 ranks x 2 seeds = 4 trials" in outputs["example.py"]
    assert (tmp_path / "letters.html").stat().st_size > 10**6
    assert "reward" in outputs["results.py"]


@pytest.mark.long
def test_bring_your_own_reward_runs_as_written(tmp_path):
    text = (STUDIES / "own_reward.md").read_text()
    for name, content in re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)```", text, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(content)
    commands = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    assert [command.split()[:2] for command in commands if command.startswith("sweep")] == [
        ["sweep", "try-reward"], ["sweep", "plan"], ["sweep", "run"], ["sweep", "confirm"], ["sweep", "report"],
    ]  # fmt: skip
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    outputs = {}
    for command in commands:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env={**os.environ, "PATH": path}, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        outputs[command.split()[1]] = done.stdout
    assert "right_letters" in outputs["try-reward"]
    assert "GRPO can learn from this" in outputs["try-reward"]
    assert "[6/6] trial 5" in outputs["run"]
    assert "at most 2 ranks x 14 seeds = 28 trials" in outputs["confirm"]
    assert "95 % confidence, " in outputs["confirm"]
    assert (tmp_path / "report.html").stat().st_size > 10**6
