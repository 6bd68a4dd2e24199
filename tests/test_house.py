"""Rules of the code that import contracts cannot say: who reaches for what, and how large a room may be."""

import ast
from pathlib import Path

import pytest

import sweep

ROOT = Path(sweep.__file__).parent.parent
FILES = sorted(path for package in ("sweep", "objectives") for path in (ROOT / package).rglob("*.py"))
OPTUNAS_PRIVATES = {"sweep/storage/optuna_internals.py", "sweep/storage/bulk.py", "sweep/storage/patience.py"}
DRAWS = (
    "sweep/terminal/", "sweep/live_display/", "sweep/running/", "sweep/cli/", "sweep/api/", "sweep/answer/learning.py",
    "sweep/html_report/contents.py", "sweep/dashboard/publish.py",
)  # fmt: skip
"""Where rich is imported: what is printed, and who is handed a console to print on."""
NOTED = {"sweep/study/reading.py": {"_folder", "_by_value"}}
"""Private attributes of our own that another room sets."""
IGNORED = {"_exit", "_replace", "_asdict", "_fields", "_render_traceback_", "_repr_html_"}


def name(path):
    return path.relative_to(ROOT).as_posix()


def tree(path):
    return ast.parse(path.read_text())


def imported(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def own(node):
    """Whether an attribute is asked of the object itself, or of its class."""
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "other")


@pytest.mark.parametrize("path", [path for path in FILES if name(path).startswith("sweep/")], ids=name)
def test_only_one_door_leads_to_optunas_privates(path):
    if name(path) in OPTUNAS_PRIVATES:
        return
    reached = {
        node.attr
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not own(node) and node.attr not in IGNORED | NOTED.get(name(path), set())
    }
    assert not reached
    assert not any("._" in module for module in imported(path))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_stored_keys_are_named_in_one_table(path):
    spelt = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute):
            key, of = node.slice, node.value.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            key, of = node.args[0], node.func.attr
            if of == "get" and isinstance(node.func.value, ast.Attribute):
                of = node.func.value.attr
        else:
            continue
        if of in ("user_attrs", "set_user_attr") and isinstance(key, ast.Constant):
            spelt.append(key.value)
    assert not spelt


@pytest.mark.parametrize("path", [path for path in FILES if not name(path).startswith(DRAWS)], ids=name)
def test_what_people_read_on_a_terminal_is_made_in_its_own_rooms(path):
    assert not any(module.split(".")[0] == "rich" for module in imported(path))


@pytest.mark.parametrize("path", FILES, ids=name)
def test_a_room_has_at_most_250_lines(path):
    assert len(path.read_text().splitlines()) <= 250


def test_a_device_is_looked_for_in_one_place():
    names = {"present_device", "shows_gpu"}
    asks = {
        name(path)
        for path in FILES
        if any(isinstance(node, ast.Name) and node.id in names for node in ast.walk(tree(path)))
    }
    # Besides the room that decides: what says that a GPU is missing.
    assert asks == {
        "sweep/preflight/devices.py", "sweep/preflight/placement.py", "sweep/preflight/checks.py",
        "sweep/doctor/gpu.py",
    }  # fmt: skip
