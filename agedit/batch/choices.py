"""What the command `edit` was asked for, and what one photo and many need alike."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agedit.errors import AgeEditError

if TYPE_CHECKING:
    from agedit.editor import AgeEditor
    from agedit.engine import Engine

PIPE = "-"
"""Stands for standard input, and as an output for standard output."""

PIPE_LIMIT = 200_000_000
"""Bytes of a picture that is read from a pipe."""


@dataclass(frozen=True)
class Choices:
    """The options of `edit` that are not about which photos."""

    years: tuple[float, ...]
    budget: float | None
    submodel: str | None
    face: str
    strict: bool
    jobs: int | None
    resume: bool
    shard: str | None
    as_json: bool

    @property
    def of_many(self) -> bool:
        """Whether they make sense for several edits alone."""
        return len(self.years) > 1 or self.resume or self.jobs is not None or self.shard is not None


def read_pipe() -> bytes:
    """The file that comes by standard input. Raises AgeEditError for none, and for one without an end."""
    refuse_terminal(sys.stdin, "- reads a picture from a pipe, and there is none; name a file instead.")
    content = sys.stdin.buffer.read(PIPE_LIMIT + 1)
    if len(content) > PIPE_LIMIT:
        raise AgeEditError(f"The pipe holds more than {PIPE_LIMIT // 1_000_000} MB; send one picture.")
    return content


def refuse_terminal(stream: Any, sentence: str) -> None:
    """Raise AgeEditError with the sentence where a stream of pictures is a terminal."""
    if stream is not None and stream.isatty():
        raise AgeEditError(sentence)


def check_one_of_both(choices: Choices) -> None:
    """Raise AgeEditError where both a sub-model and a budget to choose it by are given."""
    if choices.submodel and choices.budget:
        raise AgeEditError("Give either --budget or --submodel, not both.")


def named_submodel(shared: "Engine", choices: Choices) -> tuple[int, float] | None:
    """What --submodel means, or None without it. Raises AgeEditError where there is no such sub-model."""
    from agedit.submodel import parse

    return parse(choices.submodel, shared.weights.resolutions) if choices.submodel else None


def face_number(text: str) -> int | Literal["all"]:
    """What --face means: a number, or "all". Raises AgeEditError for anything else."""
    if text == "all":
        return "all"
    if not (text.isascii() and text.isdigit()):
        raise AgeEditError(f"--face {text} is not a face; give a number, 0 being the largest face, or all.")
    return int(text)


def choose_submodel(editor: "AgeEditor", budget: float) -> list[str]:
    """Set the editor's sub-model to the best within a budget in ms, and return what the tuner has to say."""
    from agedit.selection.tuner import Tuner

    tuner = Tuner(editor.engine)
    known = tuner.answer(budget) is not None
    # a profile is not believed blindly, nor dropped for one busy moment
    fresh = known and not any(tuner.verify(budget) for _ in range(3))
    tuned = tuner.choose(budget, fresh=fresh)
    editor.submodel = tuned["submodel"]["r"], tuned["submodel"]["c"]
    return tuned["notes"]
