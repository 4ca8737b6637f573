"""Write requirements*.txt from pyproject.toml, or with --check only say whether they differ."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "requirements.txt": ("The page and the command line.", ["dependencies", "page"]),
    "requirements-train.txt": ("Training, on top of the page.", ["train"]),
    "requirements-test.txt": ("Tests, lint and types; browser tests want a Chromium too.", ["test", "lint"]),
}


def render(project: dict, comment: str, groups: list[str]) -> str:
    """The text of one requirements file.

    Args:
        project: the [project] table of pyproject.toml.
        comment: what the file is for, its first line.
        groups: "dependencies" or names of extras, in order.
    """
    lines = [f"# {comment} Generated from pyproject.toml by tools/sync_requirements.py."]
    if "dependencies" not in groups:
        lines.append("-r requirements.txt")
    for group in groups:
        source = project if group == "dependencies" else project["optional-dependencies"]
        lines.extend(source[group])
    return "\n".join(lines) + "\n"


def main() -> int:
    """Return the exit status: 1 if --check found a file that differs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    stale = []
    for name, (comment, groups) in FILES.items():
        text = render(project, comment, groups)
        path = ROOT / name
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(text)
    if stale and "--check" in sys.argv:
        print(f"{', '.join(stale)} differ from pyproject.toml: run python tools/sync_requirements.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
