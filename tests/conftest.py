"""Shared by all tests: the engine and a portrait are loaded once."""
from pathlib import Path

import pytest

from agedit import AgeEditor, Engine, load_photo

ROOT = Path(__file__).resolve().parent.parent
PORTRAITS = sorted((ROOT / "assets" / "portraits").glob("*.jpg"))


@pytest.fixture(scope="session")
def engine():
    return Engine()


@pytest.fixture(scope="session")
def portrait():
    return load_photo(PORTRAITS[0])


@pytest.fixture
def editor(engine, portrait):
    editor = AgeEditor(engine)
    editor.set_photo(portrait)
    return editor
