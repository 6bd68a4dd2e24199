"""`sweep init`: a source's statements, each with its own text, whatever characters stand in it."""

import ast
import json

import pytest

from sweep.init.source import read_source
from tests.support.init_sources import DATA, LOAD, REWARD, TRAIN, converter, task_of

CELL = {"cells": [{"cell_type": "code", "source": ["A = 1"]}]}


@pytest.fixture
def converted(tmp_path):
    return converter(tmp_path)


@pytest.mark.parametrize("name", ["mine.ipynb", "mine.py"])
@pytest.mark.parametrize("mark", ["\x0c", "\x0b", "\x1c", "\x85", "\u2028"])
def test_characters_that_end_no_line_of_python_stay_within_their_string(converted, name, mark):
    reward = f"MARK = 'a{mark}b'\n" + REWARD.replace("2.0 if", "float(len(MARK)) if")
    data = DATA + f"dataset = dataset.add_column('mark', ['''a{mark}\nb'''] * 6)\n"
    task = task_of(converted(reward, LOAD, data, TRAIN, name=name))
    assert task.right(["2"], ["2"]) == [3.0]
    assert task.rows()["mark"][0] == f"a{mark}\nb"


def test_a_form_feed_between_functions_moves_no_text(converted):
    made = converted("\x0c\n# Says what is right.", REWARD.strip(), LOAD, DATA, TRAIN, name="mine.py")
    assert f"# Says what is right.\n{REWARD.strip()}\n" in made.files["task.py"]


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_of_other_systems_are_read(converted, end):
    task = task_of(
        converted(f"TEXT = '''a{end}b'''{end}LENGTH = len(TEXT)", REWARD.replace("2.0", "LENGTH"), LOAD, DATA, TRAIN)
    )
    assert task.right(["2"], ["2"]) == [3]


@pytest.mark.parametrize(("name", "text"), [("mine.py", "A = 1"), ("mine.ipynb", json.dumps(CELL))])
def test_a_byte_order_mark_is_no_statement(name, text, tmp_path):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8-sig")
    assert [statement.text for statement in read_source(path).statements] == ["A = 1"]


def test_statements_of_one_line_are_told_apart_behind_letters_of_several_bytes(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("x = 'ééé'; train()\n", encoding="utf-8")
    assert [each.text for each in read_source(path).statements] == ["x = 'ééé'", "train()"]


def test_a_string_of_several_lines_within_a_block_keeps_its_own_indentation(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text('if __name__ == "__main__":\n    system = """\n    first\n      second\n    """\n')
    [statement] = read_source(path).statements
    assert ast.dump(ast.parse(statement.text)) == ast.dump(ast.parse(ast.unparse(statement.node)))


@pytest.mark.parametrize(
    "given",
    [
        "",
        "bf16 = True",
        "use_cpu = False, bf16 = False, fp16 = True, tf32 = True",
        "**dict(bf16 = True, max_grad_norm = 0.2)",
        "**{'tf32': True}, **{'use_cpu': False}",
    ],
)
@pytest.mark.parametrize("name", ["settings", "settings: GRPOConfig"])
def test_a_configuration_that_rows_need_is_made_without_a_gpu_whatever_it_says_of_one(converted, name, given, tmp_path):
    made = f"from trl import GRPOConfig\n{name} = GRPOConfig('{tmp_path}', max_steps = 7, {given})\n"
    data = DATA + "dataset = dataset.select(range(settings.max_steps - 3))\n"
    task = task_of(converted(LOAD, made, data, REWARD, TRAIN))
    assert len(task.rows()) == 4


def test_a_cell_that_is_nested_too_deep_is_named_and_the_others_are_read(converted):
    made = converted(LOAD, "x = " + "-" * 100_000 + "1", DATA, REWARD, TRAIN)
    assert "not read: cell 2: nested too deep" in made.files["REPORT.md"]
