"""The report notebook, executed as a user has it executed."""

import json
import re
import sys

import pytest

from sweep.errors import MissingExtraError
from sweep.html_report.contents import open_report
from sweep.html_report.notebook import write_notebook
from tests.support.command import sweep
from tests.support.large_study import large_study

PLOTLY = "application/vnd.plotly.v1+json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a confirmed study, and the notebook that the command makes of it."""
    folder = tmp_path_factory.mktemp("notebook")
    large_study(folder, trials=60, steps=8, seeds=4)
    done = sweep("report", "large", "--notebook", "out.ipynb", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def notebook(folder):
    return json.loads((folder / "out.ipynb").read_text())


def outputs(notebook, kind):
    """Every output of a kind, in order."""
    return [
        output["data"][kind]
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        if kind in output.get("data", {})
    ]


def test_every_cell_has_run_without_an_error_or_a_warning(notebook):
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds <= {"display_data", "execute_result"}


def test_the_study_is_named_in_the_cell_of_parameters(notebook):
    [parameters] = [cell for cell in notebook["cells"] if cell["metadata"].get("tags") == ["parameters"]]
    assert "".join(parameters["source"]) == "STORAGE = 'sqlite:///rank-sweep.db'\nSTUDY = 'large'"


def test_it_shows_the_verdict_the_ranks_the_frames_and_every_figure(folder, notebook):
    report = open_report(f"sqlite:///{folder}/rank-sweep.db", "large")
    shown = "".join("".join(text) for text in outputs(notebook, "text/plain"))
    shown = " ".join(re.sub(r"\x1b\[[\d;]*m", "", shown).split())
    assert report.evidence.confirmed.verdict.reason in shown
    assert "study large: held-out reward by rank" in shown
    assert "phase r confirm 1 4.0" in shown
    figures = outputs(notebook, PLOTLY)
    # All of the page's, and one that is made from the frames.
    assert len(figures) == len(report.figures()) + 1 == 16
    assert all(figure["data"] for figure in figures)


def test_nothing_else_is_left_behind(folder):
    assert {path.name for path in folder.iterdir()} <= {
        "out.ipynb", "report.html", "rank-sweep.db", "rank-sweep.db-shm", "rank-sweep.db-wal",
    }  # fmt: skip


@pytest.mark.parametrize("package", ["jupytext", "nbclient", "ipykernel"])
def test_without_a_package_one_line_says_how_to_get_it(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"--notebook needs {package}.*rank-sweep\[notebook\]"):
        write_notebook(tmp_path / "out.ipynb", storage="sqlite:///rank-sweep.db", study="tiny")
