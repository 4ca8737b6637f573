"""Every sentence about an error that a visitor may read is there in Chinese too."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT

from agedit.photo import REASONS
from ui.api import WRONG
from ui.errors import for_visitors
from ui.security.refusal import SENTENCES
from ui.words import plainly

RAISED = ("AgeEditError", "RefusalError")
STAND_IN = "7"  # for what an f-string fills in: a number, or a name

# what only a terminal shows
COMMANDS = (
    "agedit/training/",
    "agedit/bench/",
    "agedit/batch/",
    "agedit/edit_command.py",
    "agedit/__main__.py",
)
# the first words of sentences that no visitor can bring about, and why not
UNREACHABLE = {
    "None of the": "of reports on folders",
    "None of these photos": "of reports on folders",
    "There are no pictures in": "of reports on folders",
    "7 has no known picture ending": "of an output's name on the command line",
    "The folder 7 does not exist": "of an output's name on the command line",
    "7 could not be written": "of an output's name on the command line",
    "The folder 7 may not be written": "of an output's name on the command line",
    "The output's name is too long": "of an output's name on the command line",
    "There is no sub-model": "of a name on the command line: the page asks for known ones alone",
    "A photo must be an RGB array": "of a program that uses AgeEditor",
    "There is no photo yet": "of a program that uses AgeEditor",
    "AGEDIT_HOSTS holds": "of the start, before there is a page",
    "To listen to other machines": "of the start, before there is a page",
    "The port (--port": "of the start, before there is a page",
    "--budget must be": "of the start, before there is a page",
    "The folder for temporary files": "of the start, before there is a page",
    "No port from": "of the start, before there is a page",
    "Port 7 of": "of the start, before there is a page",
    "There is no temporary folder": "of the start, before there is a page",
    "The temporary folder cannot be written": "of the start, before there is a page",
}
# how sentences are passed on that are written elsewhere, where they are collected too
PASSED_ON = ("say(", "reason_to_refuse(", "_sentence(", "WRONG[", "str(error)", "_why_not_written(")


def texts(node: ast.expr | None, names: dict[str, ast.expr]) -> Iterator[str]:
    """What an expression may say; what is filled in is STAND_IN. Raises LookupError where that is unknown."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else STAND_IN for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body, names)
        yield from texts(node.orelse, names)
    elif isinstance(node, ast.Name) and node.id in names:
        yield from texts(names[node.id], names)
    elif node is None or not any(way in ast.unparse(node) for way in PASSED_ON):
        raise LookupError(ast.unparse(node) if node else "nothing")


def constants() -> dict[str, ast.expr]:
    """{name: value} of every text that a module gives a name."""
    found: dict[str, ast.expr] = {}
    for path in sources():
        for statement in ast.parse(path.read_text()).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
                found |= {ast.unparse(target): statement.value for target in statement.targets}
    return found


def sources() -> list[Path]:
    return sorted([*(ROOT / "agedit").rglob("*.py"), *(ROOT / "ui").rglob("*.py")])


def raised(path: Path, names: dict[str, ast.expr]) -> Iterator[str]:
    """The sentences that a file raises, and those that its functions return to be raised."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in RAISED:
            for argument in node.args:
                if not _is_status(argument):
                    yield from texts(argument, names)
        if isinstance(node, ast.FunctionDef) and node.name in ("reason_to_refuse", "_why_not_written"):
            for inner in ast.walk(node):
                if isinstance(inner, ast.Return) and not _is_none(inner.value):
                    yield from texts(inner.value, names)


def _is_status(argument: ast.expr) -> bool:
    """The number that a RefusalError begins with."""
    return isinstance(argument, ast.Constant) and isinstance(argument.value, int)


def _is_none(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def reachable() -> list[str]:
    """All that a visitor may read, once."""
    names = constants()
    values = {"name": "a.jpg", "megapixels": 81.0, "limit": 50, "width": 1, "height": 90, "ratio": 40}
    found = [*SENTENCES.values(), *WRONG.values(), *(reason.format(**values) for reason in REASONS.values())]
    for path in sources():
        if not path.relative_to(ROOT).as_posix().startswith(COMMANDS):
            found += raised(path, names)
    return sorted({sentence for sentence in found if not sentence.startswith(tuple(UNREACHABLE))})


@pytest.mark.parametrize("sentence", reachable())
def test_an_error_is_said_in_chinese(sentence):
    visitor = SimpleNamespace(headers={"accept-language": "zh-CN"})
    said = plainly(visitor, for_visitors(sentence))
    assert re.search(r"[\u4e00-\u9fff]", said), said
    assert "\\" not in said


def test_sentences_are_found_where_they_are_raised():
    found = reachable()
    assert len(found) > 60
    for start in ("No face was found", "The face is turned away", "The disk is full", "There is no face"):
        assert any(sentence.startswith(start) for sentence in found), start
