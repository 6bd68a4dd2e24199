"""Every mistake in `bad_input.py` ends in its exit code and a few lines that help; nothing is made, nothing loaded."""

import os
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.errors import StudyFileError
from sweep.preflight.checks import check_study
from sweep.study.file import StudyFile
from sweep.study.reading import load_study, make_study, parse_override, parse_study
from tests.support.bad_input import CASES, SHIPPED
from tests.support.forked import ForkedCommand

HEAVY = ("torch", "vllm", "unsloth", "trl", "transformers", "peft", "datasets")


def toml(content):
    """A study's content as TOML: two levels of tables are all it has."""
    lines = []
    for section, table in content.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {value(item)}" for key, item in table.items()]
    return "\n".join(lines)


def value(item):
    if isinstance(item, bool):
        return str(item).lower()
    if isinstance(item, dict):
        pairs = [f'"{key}" = {value(inner)}' for key, inner in item.items()]
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(item, list):
        return f"[{', '.join(map(value, item))}]"
    return repr(item) if isinstance(item, int | float) else f'"{item}"'


def edited(edit):
    content = deepcopy(SHIPPED)
    for name, item in edit.items():
        section, _, key = name.partition(".")
        table = content.setdefault(section, {}) if key else content
        if item is None:
            del table[key or section]
        else:
            table[key or section] = item
    return toml(content)


@pytest.fixture(scope="module")
def command():
    forked = ForkedCommand()
    yield forked
    forked.close()


def test_there_are_enough_mistakes():
    assert len(CASES) >= 100
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_answered(case, command, tmp_path):
    if case.edit:
        (tmp_path / "study.toml").write_text(edited(case.edit))
    for name, content in case.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(tmp_path.rglob("*"))
    done = command(*case.command, cwd=tmp_path, environment={**os.environ, "COLUMNS": "200"})
    assert done.returncode == case.code, done.stderr
    assert not done.modules.intersection(HEAVY)
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert 1 <= len(done.stderr.splitlines()) <= 6, done.stderr
    assert all(line.startswith("sweep: ") for line in done.stderr.splitlines())
    assert [text for text in case.says if text not in done.stderr] == [], done.stderr
    assert "secret" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


keys = st.sampled_from([key for table in SHIPPED.values() for key in table] + ["x", ""])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
contents = st.dictionaries(
    st.sampled_from([*SHIPPED, "learner", "x"]), values | st.dictionaries(keys, values, max_size=6), max_size=8
)


@settings(max_examples=300, deadline=None)
@given(contents, st.booleans())
def test_generated_studies_are_read_or_refused_and_never_crash(content, on_top_of_shipped):
    if on_top_of_shipped:
        content = {
            name: {**table, **content.get(name, {})} if isinstance(content.get(name, {}), dict) else content[name]
            for name, table in SHIPPED.items()
        }
    try:
        assert isinstance(parse_study(content, source="x.toml"), StudyFile)
    except StudyFileError as error:
        assert str(error).startswith("x.toml: ")


fragments = st.sampled_from(
    [
        "[study]",
        "[model]",
        "[task]",
        "[space]",
        "name = ",
        "r = ",
        "[1, 4]",
        "'x'",
        '"tiny"',
        "=",
        "\n",
        "[",
        "]",
        "{",
        "1e400",
        "0x",
        "#",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.lists(fragments, max_size=20).map("".join) | st.binary(max_size=40))
def test_generated_files_are_read_or_refused_and_never_crash(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "generated.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    try:
        check_study(load_study(str(path)))
    except StudyFileError as error:
        assert str(error)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30) | st.builds("{}.{}={}".format, st.sampled_from([*SHIPPED]), keys, st.text(max_size=12)))
def test_generated_overrides_are_read_or_refused_and_never_crash(override):
    content = deepcopy(SHIPPED)
    try:
        make_study(content, dict([parse_override(override)]), source="x.toml", folder=Path())
    except StudyFileError as error:
        assert str(error)
