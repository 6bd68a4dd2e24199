"""The user's own code, known by its source alone: what it consists of, and whether importing it would run a script."""

import ast
import sys

import pytest

from objectives.errors import TaskError
from objectives.user_code.modules import check_reference, load_reference
from objectives.user_code.scripts import find_script
from objectives.user_code.sources import own_sources


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import argparse\nargs = argparse.ArgumentParser().parse_args()", (2, "reads a command line")),
        ("parser = TrlParser((A, B))\na, b = parser.parse_args_and_config()", (2, "reads a command line")),
        ("args = tyro.cli(Args)", (1, "reads a command line")),
        ("trainer.train()", (1, "trains")),
        ("with x:\n    for i in y:\n        trainer.train(resume_from_checkpoint=True)", (3, "trains")),
        ("try:\n    GRPOTrainer(model)\nexcept ValueError: ...", (2, "makes a trainer")),
        ("def main():\n    trainer.train()\n\nmain()", (4, "trains")),
        (
            "def run():\n    main()\ndef main():\n    run(); p.parse_args()\n\nsys.exit(run())",
            (6, "reads a command line"),
        ),
        ("import sys\nN = int(sys.argv[1])", (2, "reads a command line")),
        ("sys.argv = ['']\ndef f(): return sys.argv", None),
        ("key = input('key: ')", (1, "asks at the keyboard")),
        ("if __name__ == '__main__':\n    ...\nelse:\n    trainer.train()", (4, "trains")),
        ("get_ipython().run_line_magic('pip', 'install x')", (1, "is an exported notebook")),
        ("model, t = unsloth.FastLanguageModel.from_pretrained('x')", (1, "loads a model to train")),
        ("if __name__ == '__main__':\n    trainer.train()", None),
        ("if '__main__' == __name__:\n    main()\ndef main():\n    p.parse_args()", None),
        ("def main():\n    trainer.train()\nclass A:\n    def f(self): p.parse_args()\nf = lambda: x.train()", None),
        ("judge = AutoModel.from_pretrained('x').eval()\njudge.train(False)", None),
        ("tokenizers.trainers.BpeTrainer()", None),
        ("from trl import GRPOTrainer", None),
    ],
)
def test_a_script_is_told_from_a_module_of_functions(source, what):
    assert find_script(ast.parse(source)) == what


def test_a_modules_own_imports_belong_to_it_and_installed_ones_do_not(tmp_path):
    files = {
        "rewards.py": (
            "import json, torch\nimport scoring.exact as exact\nfrom scoring import near\ndef f(): import late"
        ),
        "scoring/__init__.py": "from . import shared",
        "scoring/exact.py": "from .shared import x\nfrom ..nowhere import y\nimport objectives.rewards.calling",
        "scoring/near.py": "from rewards import f",
        "scoring/shared.py": "x = 1",
        "late.py": "",
        "unused.py": "",
        "objectives/rewards/calling.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = own_sources(["rewards"], [tmp_path / "other", tmp_path])
    assert {path.relative_to(tmp_path).as_posix() for path in found.values()} == {
        "rewards.py", "scoring/__init__.py", "scoring/exact.py", "scoring/near.py", "scoring/shared.py", "late.py"
    }  # fmt: skip


def test_a_module_that_a_module_imports_may_be_no_script_either(tmp_path):
    (tmp_path / "rewards.py").write_text("from scripted import right")
    (tmp_path / "scripted.py").write_text("def right(): ...\ntrainer.train()")
    with pytest.raises(TaskError, match=r"scripted\.py runs a script: line 2 trains; move the functions to a module"):
        check_reference("rewards:right", [tmp_path])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise SystemExit(2)", "importing ends_\\d+ runs a script, and it ended with exit code 2"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        ("raise KeyboardInterrupt", "cannot be imported: KeyboardInterrupt"),
    ],
)
def test_a_module_that_ends_as_it_is_imported_is_named(tmp_path, monkeypatch, source, message):
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"ends_{len(source)}"
    (tmp_path / f"{name}.py").write_text(source)
    with pytest.raises(TaskError, match=message):
        load_reference(f"{name}:right", [tmp_path])


def test_a_function_within_another_is_not_the_modules(tmp_path):
    (tmp_path / "outer.py").write_text(
        "def outer():\n    def right(completions, **_): return [0.0]\n    return right\n"
    )
    check_reference("outer:outer", [tmp_path])
    with pytest.raises(TaskError, match="defines no 'right'"):
        check_reference("outer:right", [tmp_path])


@pytest.mark.parametrize(("source", "is_script"), [("model.train()", False), ("trainer.train()", True)])
def test_only_a_trainer_trains(source, is_script):
    assert (find_script(ast.parse(source)) is not None) == is_script
