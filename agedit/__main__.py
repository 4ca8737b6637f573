"""The command line: python -m agedit edit | tune | profiles | info | bench | sheet | evaluate | train."""

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import click

from agedit.commands import PlainErrors
from agedit.errors import AgeEditError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from agedit.editor import AgeEditor, Edit
    from agedit.engine import Engine
    from agedit.selection.profiles import Loaded
    from agedit.selection.selector import Entry
    from agedit.weights import Weights


def quiet_libraries() -> None:
    """Keep stderr for our own sentences.

    MediaPipe and TFLite write banners from C++ straight to file descriptor 2, some from threads that outlive
    the call, so the descriptor goes nowhere until the program ends; Python's stderr goes on through a copy of
    it.
    """
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)


@click.group(cls=PlainErrors, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Age editing that runs on your own machine. No photo leaves it."""


def engine() -> "Engine":
    from agedit.engine import Engine

    return Engine()


def report(data: Any, as_json: bool, text: str) -> None:
    click.echo(json.dumps(data) if as_json else text)


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


@main.command()
@click.argument("photo")
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT.png",
    help="Where the edited picture goes; the ending is its format.",
)
@click.option("--years", required=True, type=float, help="Change of age: 20 is older, -20 younger.")
@click.option("--budget", type=float, metavar="MS", help="Waiting budget; the best sub-model within it runs.")
@click.option("--submodel", metavar="R:C", help="Run this sub-model, e.g. 128:0.5.")
@click.option("--face", default="0", show_default=True, metavar="K|all", help="Which face, largest first.")
@click.option("--strict", is_flag=True, help="The patent's own form: write the generated face G(f') alone.")
@as_json
def edit(
    photo: str,
    output: str,
    years: float,
    budget: float | None,
    submodel: str | None,
    face: str,
    strict: bool,
    as_json: bool,
) -> None:
    """Make the person in PHOTO older or younger."""
    from agedit.photo import check_output, open_photo, save_photo

    check_output(output)
    start = time.perf_counter()
    opened = open_photo(photo)
    ms = {"read": milliseconds_since(start)}
    index = face_number(face)
    editor, notes = editor_for(submodel, budget, opened.rgb, ms)
    result = edit_photo(editor, years, index, strict)
    reading = editor.read(result, next(iter(result.years)))
    notes += beyond_reach(editor.engine.weights, reading["age_before"], years)
    start = time.perf_counter()
    save_photo(output, result.picture, synthetic=bool(result.changes) or strict, like=opened)
    ms |= result.ms | {"write": milliseconds_since(start)}
    r, c = result.submodel
    data = {
        "output": output,
        "faces": len(editor.faces),
        "face": index,
        "submodel": {"r": r, "c": c},
        "years": years,
        **reading,
        "strict": strict,
        "ms": {stage: round(taken, 2) for stage, taken in ms.items()},
        "notes": notes,
    }
    summary = (
        f"{output}: {years:+g} years with {r} px, c = {c:g}; about {reading['age_before']:.0f} before, "
        f"{reading['age_after']:.0f} after, identity {reading['identity']:.2f} "
        f"({ms['generate'] + ms['blend']:.0f} ms to generate and blend)"
    )
    report(data, as_json, "\n".join([summary, *notes]))


def milliseconds_since(start: float) -> float:
    """Since a `time.perf_counter()`."""
    return (time.perf_counter() - start) * 1e3


def editor_for(
    submodel: str | None, budget: float | None, rgb: "npt.NDArray[np.uint8]", ms: dict[str, float]
) -> tuple["AgeEditor", list[str]]:
    """An editor with its photo set, its sub-model named or chosen, and what the tuner has to say.

    Args:
        ms: the times of `AgeEditor.set_photo` are added.
    """
    from agedit.editor import AgeEditor
    from agedit.submodel import parse

    if submodel and budget:
        raise AgeEditError("Give either --budget or --submodel, not both.")
    shared = engine()
    editor = AgeEditor(shared, parse(submodel, shared.weights.resolutions) if submodel else None)
    ms |= editor.set_photo(rgb)
    notes = [] if budget is None else choose_submodel(editor, budget)
    return editor, notes


def edit_photo(editor: "AgeEditor", years: float, face: int | Literal["all"], strict: bool) -> "Edit":
    """The edit, whose times are those of a slider move: what a photo needs once is done before."""
    for index in editor.indices(face):
        editor.prepare(index, None if strict else editor.submodel)
    return editor.edit(years, face, strict=strict)


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


def beyond_reach(weights: "Weights", age: float, years: float) -> list[str]:
    """A note, where more years were asked for than the networks know at this age."""
    low, high = weights.calibration.reach(age)
    if low <= years <= high:
        return []
    end = high if years > 0 else low
    return [
        f"Beyond {end:+.0f} years nothing changes for a face that looks about {age:.0f}: "
        "the networks know no further."
    ]


@main.command()
@click.option(
    "--budget", required=True, type=float, metavar="MS", help="How long a visitor may wait for an edit."
)
@click.option("--fresh", is_flag=True, help="Forget the times in this device's profile and measure again.")
@as_json
def tune(budget: float, fresh: bool, as_json: bool) -> None:
    """Choose the best sub-model within a waiting budget by timing candidates on this device (S4)."""
    from agedit.selection.tuner import Tuner

    def tell(entry: "Entry") -> None:
        if not as_json:
            click.echo(verdict_line(entry))

    result = Tuner(engine()).choose(budget, fresh, tell)
    chosen = result["submodel"]
    summary = (
        f"{chosen['r']} px, c = {chosen['c']:g}: p50 {result['p50_ms']} ms, p90 {result['p90_ms']} ms, "
        f"chosen in {result.get('seconds')} s; profile {result['profile']}"
    )
    report(result, as_json, "\n".join([summary, *result["notes"]]))


def verdict_line(entry: "Entry") -> str:
    """One row of the tuner's progress."""
    r, c = entry["submodel"]
    timed = f"p90 {entry['p90_ms']:7.1f} ms" if "p90_ms" in entry else ""
    return f"{r:5d} px  c = {c:<5g} {timed:14}  {entry['verdict']}: {entry['reason']}"


@main.command()
@click.option("--import", "path", metavar="FILE", help="Keep another device's profile, to compare with.")
@as_json
def profiles(path: str | None, as_json: bool) -> None:
    """Devices whose times are known, and what each sub-model costs there."""
    from agedit.paths import profiles_folder
    from agedit.selection.profiles import import_profile, survey

    folder = profiles_folder()
    if path:
        import_profile(path, folder)
    readable, left_out = survey(folder)
    rows = [profile_row(profile) for profile in readable]
    text = "\n".join([*map(profile_text, rows), *left_out])
    nothing = f"There is no profile in {folder} yet; `python -m agedit tune` makes one."
    report({"profiles": rows, "left_out": left_out}, as_json, text or nothing)


def profile_row(profile: "Loaded") -> dict[str, Any]:
    """A profile as --json prints it: the device, and its times by sub-model."""
    times = [
        {"r": r, "c": c, "p50_ms": taken.p50, "p90_ms": taken.p90, "n": len(taken.runs)}
        for (r, c), taken in sorted(profile["times"].items())
    ]
    return {
        "device": profile["device"],
        "power": profile["power"],
        "path": profile["path"],
        "times": times,
    }


def profile_text(row: dict[str, Any]) -> str:
    """The same for people, a line a sub-model."""
    device = row["device"]
    title = f"{device['processor']}, {device['cores']} cores, {device['threads']} threads"
    lines = [
        f"  {t['r']}:{t['c']:g}  p50 {t['p50_ms']:.1f} ms, p90 {t['p90_ms']:.1f} ms" for t in row["times"]
    ]
    return title + "\n" + "\n".join(lines)


@main.command()
@as_json
def info(as_json: bool) -> None:
    """What the weights hold: sub-models, their costs, layer counts, hashes, provenance."""
    from agedit.reports.info import describe, table

    data = describe(engine())
    report(data, as_json, table(data))


@main.command()
@click.argument("folder")
@click.option("--limit", type=click.IntRange(min=1), help="Judge the first N photos only.")
@as_json
def evaluate(folder: str, limit: int | None, as_json: bool) -> None:
    """Judge the edits of every photo in FOLDER with the shipped estimators."""
    from tqdm import tqdm

    from agedit.reports.evaluate import evaluate as run

    data = run(folder, engine(), limit, lambda files: tqdm(files, unit="photo", file=sys.stderr))
    summary = {key: value for key, value in data.items() if key != "rows"}
    report(data, as_json, json.dumps(summary, indent=1))


@main.command()
@click.argument("photos", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="OUT.png")
@click.option("--years", default="-20,0,20,40", show_default=True, help="One column each.")
@click.option("--submodel", metavar="R:C")
@click.option("--strict", is_flag=True, help="G(f') alone.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(min=32), help="Pixels of a face.")
def sheet(
    photos: tuple[str, ...], output: str, years: str, submodel: str | None, strict: bool, size: int
) -> None:
    """A sheet of edits of PHOTOS (pictures or folders), one row a face, one column an age."""
    from agedit.photo import check_output, save_photo
    from agedit.reports.sheet import pictures_in
    from agedit.reports.sheet import sheet as make
    from agedit.submodel import parse

    check_output(output)
    columns = whole_years(years)
    shared = engine()
    choice = parse(submodel, shared.weights.resolutions) if submodel else None
    paths = [path for photo in photos for path in pictures_in(photo)]
    picture = make(paths, shared, columns, choice, strict, size)
    save_photo(output, picture, synthetic=strict or any(columns))
    click.echo(output)


def whole_years(text: str) -> list[int]:
    """What --years of `sheet` means. Raises AgeEditError for anything but whole numbers."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise AgeEditError(f"--years {text} is not a list of whole years such as -20,0,20.") from None


@main.command()
@click.option("--peer-wheel", metavar="WHEEL", help="random-face==2021.7.21.1, to time MobileStyleGAN too.")
@click.option("--no-peers", is_flag=True, help="Leave the peers out.")
@click.option("--plot", metavar="PNG", help="Draw the figures too.")
@as_json
def bench(peer_wheel: str | None, no_peers: bool, plot: str | None, as_json: bool) -> None:
    """Time everything on this device and print ratios with their bounds.

    Takes some minutes, best on a quiet machine.
    """
    from agedit.bench.plot import plot as draw
    from agedit.bench.report import table
    from agedit.bench.run import bench as run
    from agedit.photo import check_output

    if plot:
        check_output(plot)
    data = run(peer_wheel, not no_peers, lambda words: click.echo(words, err=True))
    if plot:
        draw(data, plot)
    report(data, as_json, table(data))


@main.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> None:
    """Train on your own faces, stage by stage; `train --help` lists the stages."""
    try:
        from agedit.training.cli import stages

        stages.main(args=list(arguments), prog_name="python -m agedit train", standalone_mode=True)
    except ModuleNotFoundError as error:
        raise AgeEditError(
            f"Training needs the package {error.name}; run `pip install -r requirements-train.txt`."
        ) from None


def run() -> None:
    """The `agedit` command, and `python -m agedit`."""
    if sys.argv[1:2] != ["train"]:  # torch and NCCL have things to say there
        quiet_libraries()
    main()


if __name__ == "__main__":
    run()
