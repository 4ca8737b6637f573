"""The portraits that a visitor may try the page with."""

import csv
from pathlib import Path

from agedit.paths import portraits_folder

PORTRAITS = portraits_folder()


def credits() -> list[dict[str, str]]:
    """One row a portrait: "file", "credit", "licence" and what else CREDITS.csv holds."""
    with (PORTRAITS / "CREDITS.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def is_portrait(path: str) -> bool:
    """Whether this is the path of a portrait."""
    names = {row["file"] for row in credits()}
    return Path(path).parent == PORTRAITS and Path(path).name in names
