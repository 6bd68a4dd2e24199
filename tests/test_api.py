"""`sweep.Study`: the same studies, stored alike, from Python."""

import functools
import json
import subprocess
import sys
import threading

import pytest

import sweep as face
from sweep.study.reading import load_study
from sweep.study.sources import source_hashes
from tests.support.command import sweep
from tests.support.notebook_study import CELLS

CONTENT = {
    "study": {"name": "mine"},
    "model": {"name": "shipped/tiny", "max_lora_rank": 16},
    "space": {"learning_rate": [1e-3, 2e-3, 4e-3]},
    "task": {"name": "dataset", "data": "rows.jsonl", "reward": ["mine:right"]},
    "budget": {"steps": 4, "prompts_per_step": 2, "group_size": 2},
}
BONUS = 1.0


def bonus():
    return BONUS


def right(completions, **columns):
    return [bonus() for _ in completions]


class Right:
    def __init__(self, value):
        self.value = value

    def __call__(self, completions, **columns):
        return [self.value for _ in completions]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Where this module lies in none of a study's folders, so that its functions are sent by value."""
    monkeypatch.chdir(tmp_path)


def content(**task):
    return {**CONTENT, "task": {**CONTENT["task"], **task}}


def hashes(**task):
    """The digests of the functions that a study with this task sends by value."""
    return face.Study(content(**task)).config.sources_by_value


def test_importing_it_loads_nothing_heavy():
    program = "import sys, sweep; print([m for m in ('torch', 'optuna', 'pandas', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert face.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'Studdy'"):
        face.Studdy  # noqa: B018 - to see what it raises


def test_a_study_is_what_the_command_would_run():
    named = face.Study("tiny", settings={"budget.steps": 7, "verdict.tolerance": 0.1})
    assert named.config == load_study("tiny", ["budget.steps=7", "verdict.tolerance=0.1"])
    study = face.Study(CONTENT, settings={"task.reward": {"ours": "mine:right"}})
    assert study.config.task.named_rewards() == {"ours": "mine:right"}
    assert CONTENT["task"]["reward"] == ["mine:right"]


@pytest.mark.parametrize(
    ("study", "settings", "message"),
    [
        ("tinny", {}, "no study 'tinny'; did you mean 'tiny'"),
        ("tiny", {"space.r": [96]}, "r=96 exceeds max_lora_rank=64"),
        ("tiny", {"steps": 4}, "'steps' sets nothing; allowed: section.key"),
        ({"study": {"name": "x"}}, {}, "study: model: missing; it must be given"),
        ({"task": 3}, {}, "task"),
        ("tiny", {4: 4}, "settings={4: 4}; allowed: a dictionary"),
        ("tiny", ["budget.steps=4"], "allowed: a dictionary, as {'budget.steps': 40}"),
        (content(reward={1: right}), {}, "study: task"),
    ],
)
def test_a_mistake_is_the_commands_own_message_and_one_line_in_a_notebook(study, settings, message):
    with pytest.raises(face.SweepError, match=message) as refused:
        face.Study(study, settings=settings)
    assert refused.value._render_traceback_() == [f"StudyFileError: {refused.value}"]


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda study: study.run(trials=0), "trials=0; allowed: a whole number, at least 1"),
        (lambda study: study.run(trials=2.5), "trials=2.5; allowed: a whole number"),
        (lambda study: study.confirm(seeds=1), "seeds=1; allowed: a whole number, at least 2"),
        (lambda study: study.try_reward(prompts=0), "prompts=0; allowed: a whole number, at least 2"),
        (lambda study: study.plan(device=48), "--device"),
    ],
)
def test_a_number_that_cannot_be_is_refused_before_anything_is_stored(tmp_path, act, message):
    with pytest.raises(face.SweepError, match=message):
        act(face.Study("tiny"))
    assert list(tmp_path.iterdir()) == []


def test_what_has_not_been_run_says_so(tmp_path):
    study = face.Study("tiny")
    assert repr(study) == "study tiny: not run yet"
    assert "not run yet" in study._repr_html_()
    with pytest.raises(face.SweepError, match=r"no storage at rank-sweep\.db"):
        study.trials  # noqa: B018 - to see what it raises
    assert "on shipped/tiny" in repr(study.plan())
    assert list(tmp_path.iterdir()) == []


def test_functions_are_named_and_rows_are_a_function(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def near(completions, **columns):\n    return [1.0 for _ in completions]\n")
    monkeypatch.syspath_prepend(tmp_path)
    from mine import near

    several = [right, near, lambda completions, **columns: [0.0], Right(1.0), functools.partial(right)]
    task = face.Study(content(reward=several, data=[{"prompt": "a"}])).config.task
    given = task.named_rewards()
    cells = "notebook_cells"
    assert list(given.values()) == [
        f"{cells}:right", "mine:near", f"{cells}:lambda", f"{cells}:Right", f"{cells}:partial",
    ]  # fmt: skip
    assert task.data == f"{cells}:rows"
    assert list(hashes(reward={"one": right, "two": right}))[:2] == [f"{cells}:one", f"{cells}:two"]


def test_a_hash_is_of_the_source_and_of_what_it_uses(monkeypatch):
    first = hashes(reward=right)
    assert hashes(reward=right) == first
    monkeypatch.setitem(globals(), "BONUS", 2.0)
    assert hashes(reward=right) != first
    monkeypatch.setitem(globals(), "BONUS", 1.0)
    assert hashes(reward=right) == first
    monkeypatch.setitem(globals(), "bonus", lambda: 1.0)
    assert hashes(reward=right) != first
    assert hashes(reward=Right(1.0)) != hashes(reward=Right(2.0))
    assert hashes(reward=right, data=[{"prompt": "a"}]) != hashes(reward=right, data=[{"prompt": "b"}])
    config = face.Study(content(reward=right)).config
    assert source_hashes(config).items() >= config.sources_by_value.items()


def test_a_function_that_cannot_be_sent_is_refused():
    lock = threading.Lock()

    def locked(completions, **columns):
        with lock:
            return [0.0 for _ in completions]

    with pytest.raises(face.SweepError, match=r"locked: cannot be sent to a worker: .*lock"):
        face.Study(content(reward=locked))


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The notebook, run in a kernel of its own."""
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("cells")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in CELLS])
    notebook.cells += [
        nbformat.v4.new_code_cell(text, metadata={"tags": ["raises-exception"]})
        for text in ("LETTER = 'b'\nsweep.Study(content).run()", "sweep.Study('tinny')")
    ]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    return folder, notebook


def shown(cell):
    """What a cell shows, as text."""
    texts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(texts)


@pytest.mark.long
def test_a_notebook_goes_from_its_functions_to_a_verdict(executed):
    folder, notebook = executed
    [_, study, plan, table, verdict, trials, figure, report, *_] = notebook.cells
    assert "study cells: not run yet" in shown(study)
    assert "2 trials: 1 point for each of r=1, 16" in " ".join(shown(plan).split())
    assert "study cells: held-out reward by rank" in shown(table)
    assert "2 ranks x 2 seeds = 4 trials" in shown(verdict)
    assert "confirm" in shown(trials) and "search" in shown(trials)
    assert "application/vnd.plotly.v1+json" in figure.outputs[0].data
    assert (folder / "report.html").is_file() and "report.html" in shown(report)
    html = [output.data["text/html"] for output in verdict.outputs if "text/html" in output.get("data", {})]
    assert any("4/4" in text for text in html) and "95% interval" in html[-1]
    command = sweep("show", "cells", "--json", cwd=folder)
    assert json.loads(command.stdout)["verdict"]["outcome"]


@pytest.mark.long
def test_a_cell_that_has_changed_is_refused_as_a_file_is(executed):
    changed, unknown = executed[1].cells[-2:]
    assert changed.outputs[-1].ename == "StudyMismatchError"
    assert "notebook_cells:letters has changed" in changed.outputs[-1].evalue
    assert changed.outputs[-1].traceback == [f"StudyMismatchError: {changed.outputs[-1].evalue}"]
    assert unknown.outputs[-1].ename == "StudyFileError"


@pytest.mark.long
def test_a_script_needs_no_main_guard(tmp_path):
    (tmp_path / "script.py").write_text("\n".join(CELLS[:2]) + "\nprint(study.run())\n")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "study cells: held-out reward by rank" in done.stdout
