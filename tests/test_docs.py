"""Links and paths in the documentation resolve, its commands exist, and every picture in it is shown."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import click
import pytest
from conftest import ROOT

from agedit.__main__ import main
from agedit.training.cli import stages

LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"-m agedit ([^`\n]+)")
PATH = re.compile(r"(?<![\w./-])(?:agedit|ui|tests)/[\w./-]*")
OUTSIDE = {"node_modules", "build", "dist", "wheels", "runs"}


def pages() -> list[Path]:
    """Every Markdown page of the repository, without what was installed or built in it."""
    found = (page.relative_to(ROOT) for page in ROOT.rglob("*.md"))
    return sorted(p for p in found if not any(part in OUTSIDE or part.startswith(".") for part in p.parts))


def prose(page: Path) -> str:
    """A page's text without its code blocks, in which brackets are no links."""
    return BLOCK.sub("", (ROOT / page).read_text())


def anchors(text: str) -> set[str]:
    """The anchors that a Markdown page's headings have, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def relative_links(page: Path) -> Iterator[tuple[str, str]]:
    """(path, anchor) of each link of a page that does not lead to another site."""
    for target in LINK.findall(prose(page)):
        if not re.match(r"[a-z][a-z+.-]*:", target):
            path, _, anchor = unquote(target).partition("#")
            yield path, anchor


def named_paths(page: Path) -> set[str]:
    """Paths of the program and its tests in a page's inline code."""
    return {path for code in INLINE.findall(prose(page)) for path in PATH.findall(code)}


def commands() -> list[tuple[Path, str]]:
    """(page, arguments) of each `python -m agedit ...` in the pages' shell blocks and inline code."""
    found = []
    for page in pages():
        text = (ROOT / page).read_text()
        code = [block for language, block in BLOCK.findall(text) if language == "sh"]
        code += INLINE.findall(prose(page))
        found += [(page, arguments) for part in code for arguments in COMMAND.findall(part)]
    return found


def options_of(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts} | {"--help"}


@pytest.mark.parametrize("page", pages(), ids=str)
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for path, anchor in relative_links(page):
        target = (ROOT / page.parent / path) if path else ROOT / page
        if not target.exists():
            broken.append(path)
        elif anchor and target.suffix == ".md" and anchor not in anchors(target.read_text()):
            broken.append(f"{path}#{anchor}")
    assert not broken, f"{page} links to what does not exist: {', '.join(broken)}"


@pytest.mark.parametrize("page", pages(), ids=str)
def test_paths_in_inline_code_exist(page: Path) -> None:
    missing = [path for path in named_paths(page) if not (ROOT / path).exists()]
    assert not missing, f"{page} names what does not exist: {', '.join(sorted(missing))}"


def test_pages_and_links_are_found() -> None:
    """The checks of this file look at something."""
    assert {Path("README.md"), Path("agedit/training/README.md"), Path("weights/MODEL_CARD.md")} <= set(
        pages()
    )
    assert sum(1 for page in pages() for _ in relative_links(page)) > 20
    assert sum(len(named_paths(page)) for page in pages()) > 20
    assert len(commands()) > 20


@pytest.mark.parametrize("page, arguments", commands(), ids=lambda value: str(value)[:60])
def test_commands_exist_with_their_options(page: Path, arguments: str) -> None:
    words = shlex.split(arguments, comments=True)
    group: click.Group = main
    name = words.pop(0)
    if name == "train" and words and not words[0].startswith("-"):
        group = stages
        name = words.pop(0)
    assert name in group.commands, f"{page}: there is no command {name}"
    given = {word.split("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
    unknown = given - options_of(group.commands[name])
    assert not unknown, f"{page}: {name} has no option {', '.join(sorted(unknown))}"


def test_every_picture_in_docs_is_shown() -> None:
    """Screenshots in docs/page are linked as a folder."""
    linked = {
        (ROOT / page.parent / path).resolve() for page in pages() for path, _ in relative_links(page) if path
    }
    pictures = [p for p in (ROOT / "docs").rglob("*") if p.suffix in {".jpg", ".jpeg", ".png", ".webp"}]
    unused = [
        p for p in pictures if not linked & {p.resolve(), p.parent.resolve()} - {(ROOT / "docs").resolve()}
    ]
    assert not unused, f"no page shows {', '.join(str(p.relative_to(ROOT)) for p in unused)}"
