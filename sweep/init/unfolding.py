"""A script that trains in functions, branches and blocks, as the statements that run on the way to its trainer."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from sweep.init.command_line import ARGPARSE, DATACLASSES, defaults_of_command_line
from sweep.init.source import Source, Statement, text_of
from sweep.init.values import UnknownValueError, evaluate

DEEPEST = 6
"""Functions that train within functions that train."""
TRAINER = re.compile(r"Trainer$")
SETTINGS = re.compile(
    r"(LoraConfig|GRPOConfig|TrainingArguments|get_peft_model|add_argument|parse_args\w*|ArgumentParser)$"
    r"|(AutoModel\w*|Fast\w*Model|AutoTokenizer)\.from_pretrained$"
)
"""Calls that make a function worth following although it does not train."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(slots=True)
class _Unfolding:
    """What has been followed so far."""

    functions: dict[str, Statement] = field(default_factory=dict)
    training: set[str] = field(default_factory=set)
    out: list[Statement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    depth: int = 0

    def follow(self, statement: Statement) -> None:
        """One statement, as those that it comes to."""
        node = statement.node
        self.define([statement])
        if isinstance(node, Function) and node.name in self.training:
            return
        call = self._followed_call(node)
        if call is not None and self.depth < DEEPEST:
            self._enter(call, node, statement.place)
        elif made := defaults_of_command_line(statement, self.out):
            self.out += made.statements
            self.notes += [note for note in made.notes if note not in self.notes]
        elif isinstance(node, ast.If):
            self._branch(statement, node)
        elif isinstance(node, ast.Try | ast.With | ast.For | ast.While) and self._trains(node):
            self._block(statement, node)
        else:
            self.out.append(statement)

    def define(self, statements: Sequence[Statement]) -> None:
        """Learns which functions there are, and which of them train."""
        self.functions |= {each.node.name: each for each in statements if isinstance(each.node, Function)}
        while more := {
            name for name, each in self.functions.items() if name not in self.training and self._trains(each.node)
        }:
            self.training |= more

    def _trains(self, node: ast.AST) -> bool:
        return any(
            TRAINER.search(name := _name_of(each.func)) or name.removesuffix(".remote") in self.training
            for each in ast.walk(node)
            if isinstance(each, ast.Call)
        )

    def _followed_call(self, node: ast.stmt) -> ast.Call | None:
        """The call of a function of theirs that a statement makes, if it trains or makes settings."""
        value = node.value if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign | ast.Return) else None
        if isinstance(value, ast.Await):
            value = value.value
        if not isinstance(value, ast.Call):
            return None
        name = _name_of(value.func)
        # Modal's way to run a function elsewhere, and functions that are handed over: sys.exit(main()), Fire(main).
        name = re.sub(r"\.(remote|local|spawn)$", "", name)
        if name in self.training:
            return ast.Call(func=ast.Name(id=name), args=value.args, keywords=value.keywords)
        for argument in value.args:
            if isinstance(argument, ast.Call) and _name_of(argument.func) in self.training:
                return argument
            if isinstance(argument, ast.Name) and argument.id in self.training:
                return ast.Call(func=argument, args=[], keywords=[])
        function = self.functions.get(name)
        return value if function is not None and _returns_settings(function.node) else None

    def _enter(self, call: ast.Call, node: ast.stmt, place: str) -> None:
        """What a call does: its arguments by their names, its statements, and what it returns."""
        name = _name_of(call.func)
        outer = self.functions[name]
        function = outer.node
        if not isinstance(function, Function):
            return
        self.depth += 1
        for parameter, value in _bound(function, call):
            if not (isinstance(value, ast.Name) and value.id == parameter):
                self.follow(_statement(f"{parameter} = {ast.unparse(value)}", place))
        for each in function.body:
            self.follow(_inner(each, outer))
        self.depth -= 1
        last = function.body[-1]
        if isinstance(last, ast.Return) and last.value is not None and isinstance(node, ast.Assign):
            if self.out and isinstance(self.out[-1].node, ast.Return):
                self.out.pop()
            for text in _assignments(node.targets, last.value):
                self.follow(_statement(text, place))

    def _branch(self, statement: Statement, node: ast.If) -> None:
        """The side that is taken, where that is known; the side that trains, where one does."""
        try:
            taken = node.body if evaluate(node.test, self.out) else node.orelse
        except UnknownValueError:
            sides = [side for side in (node.body, node.orelse) if any(self._trains(each) for each in side)]
            parses = [side for side in (node.body, node.orelse) if any(map(_parses, side))]
            if not (sides or parses):
                self.out.append(statement)
                return
            taken = (sides or parses[::-1])[0]
            if sides:
                held = "holds" if taken is node.body else "does not hold"
                self.notes.append(f"{statement.place}: it trains where `{ast.unparse(node.test)}` {held}")
        for each in taken:
            self.follow(_inner(each, statement))

    def _block(self, statement: Statement, node: ast.Try | ast.With | ast.For | ast.While) -> None:
        """What a block does that trains; of a loop, its first round."""
        if isinstance(node, ast.With):
            for item in node.items:
                if item.optional_vars is not None:
                    text = f"{ast.unparse(item.optional_vars)} = {ast.unparse(item.context_expr)}"
                    self.out.append(_statement(text, statement.place))
        if isinstance(node, ast.For):
            self.notes.append(f"{statement.place}: it trains in a loop; the study says its first round")
            target = ast.unparse(node.target)
            try:
                text = f"{target} = {next(iter(evaluate(node.iter, self.out)))!r}"
            except (UnknownValueError, TypeError, StopIteration):
                text = f"{target} = next(iter({ast.unparse(node.iter)}))"
            self.out.append(_statement(text, statement.place))
        for each in node.body:
            self.follow(_inner(each, statement))


def unfold(source: Source) -> Source:
    """The source with calls of functions that train replaced by what these do, and known branches taken.

    A function that trains and that nobody calls, as one that a launcher starts, is taken to be called last.
    """
    unfolding = _Unfolding()
    unfolding.define(source.statements)
    for statement in source.statements:
        unfolding.follow(statement)
    if not any(_makes_trainer(statement.node) for statement in unfolding.out) and unfolding.training:
        called = {
            _name_of(n.func) for f in unfolding.functions.values() for n in ast.walk(f.node) if isinstance(n, ast.Call)
        }
        first = next((name for name in unfolding.training if name not in called), None)
        if first is not None:
            unfolding.follow(_statement(f"{first}()", f"function {first}"))
    return replace(source, statements=tuple(unfolding.out), notes=tuple(unfolding.notes))


def _parses(node: ast.stmt) -> bool:
    """Whether a statement reads a command line."""
    return any(isinstance(each, ast.Attribute) and each.attr in (*ARGPARSE, *DATACLASSES) for each in ast.walk(node))


def _makes_trainer(node: ast.stmt) -> bool:
    return any(isinstance(each, ast.Call) and TRAINER.search(_name_of(each.func)) for each in ast.walk(node))


def _returns_settings(function: ast.stmt) -> bool:
    """Whether a function makes settings or loads the model, and ends by returning what it made, and nowhere else."""
    if not isinstance(function, Function):
        return False
    returns = [node for node in _own_nodes(function) if isinstance(node, ast.Return)]
    return returns == [function.body[-1]] and any(
        isinstance(node, ast.Call) and SETTINGS.search(_name_of(node.func)) for node in _own_nodes(function)
    )


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Everything within, less what is within functions in it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, Function | ast.Lambda | ast.ClassDef):
            yield from _own_nodes(child)


def _bound(function: Function, call: ast.Call) -> Iterator[tuple[str, ast.expr]]:
    """Parameters with what they are given, or their defaults."""
    ordered = [*function.args.posonlyargs, *function.args.args]
    defaults = function.args.defaults
    bound: dict[str, ast.expr] = {
        each.arg: default for each, default in zip(ordered[len(ordered) - len(defaults) :], defaults, strict=True)
    }
    bound |= {
        each.arg: default
        for each, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
        if default is not None
    }
    bound |= dict(zip((each.arg for each in ordered), call.args, strict=False))
    bound |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    yield from bound.items()


def _assignments(targets: Sequence[ast.expr], value: ast.expr) -> Iterator[str]:
    """A function's result given to its names, pair by pair where both sides are pairs."""
    for target in targets:
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            pairs = list(zip(target.elts, value.elts, strict=True))
        for one, other in pairs:
            if (text := ast.unparse(one)) != ast.unparse(other):
                yield f"{text} = {ast.unparse(other)}"


class _NoReturn(ast.NodeTransformer):
    """Replaces a return, which stands in no function any more."""

    def visit_Return(self, node: ast.Return) -> ast.stmt:
        """Where their function would have given up."""
        return ast.parse("raise RuntimeError('the script returns here')").body[0]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        """Functions keep theirs."""
        return node


def _inner(node: ast.stmt, outer: Statement) -> Statement:
    """A statement of a function or block, as one of the top level."""
    returns = not isinstance(node, ast.Return) and any(isinstance(each, ast.Return) for each in _own_nodes(node))
    if returns and not isinstance(node, Function | ast.ClassDef):
        node = ast.fix_missing_locations(_NoReturn().visit(node))
        return Statement(node=node, text=ast.unparse(node), place=outer.place)
    place = f"line {node.lineno}" if outer.lines and outer.place.startswith("line") else outer.place
    text = text_of(node, outer.lines) if outer.lines else ast.unparse(node)
    return Statement(node=node, text=text, place=place, lines=outer.lines)


def _statement(text: str, place: str) -> Statement:
    return Statement(node=ast.parse(text).body[0], text=text, place=place)


def _name_of(node: ast.expr) -> str:
    return ast.unparse(node)
