"""The command line: python -m agedit edit | tune | profiles | info | bench | sheet | evaluate | train."""

import json
import os
import sys
import time
from typing import TYPE_CHECKING

import click

from agedit.commands import PlainErrors
from agedit.errors import AgeEditError

if TYPE_CHECKING:
    from agedit.editor import AgeEditor
    from agedit.weights import Weights


def quiet_libraries():
    """Keep stderr for our own sentences.

    MediaPipe and TFLite write banners from C++ straight to file descriptor 2, some from threads that outlive the call,
    so the descriptor goes nowhere until the program ends; Python's stderr goes on through a copy of it.
    """
    os.environ.setdefault("GLOG_minloglevel", "3")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)


@click.group(cls=PlainErrors, context_settings={"help_option_names": ["-h", "--help"]})
def main():
    """Age editing that runs on your own machine. No photo leaves it."""


def engine():
    from agedit.engine import Engine

    return Engine()


def report(data, as_json, text):
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
def edit(photo, output, years, budget, submodel, face, strict, as_json):
    """Make the person in PHOTO older or younger."""
    from agedit.editor import AgeEditor
    from agedit.photo import check_output, open_photo, save_photo
    from agedit.submodel import parse

    check_output(output)
    start = time.perf_counter()
    photo = open_photo(photo)
    ms = {"read": (time.perf_counter() - start) * 1e3}
    face = face_number(face)
    if submodel and budget:
        raise AgeEditError("Give either --budget or --submodel, not both.")
    eng = engine()
    editor = AgeEditor(eng, parse(submodel, eng.weights.resolutions) if submodel else None)
    ms |= editor.set_photo(photo.rgb)
    notes = [] if budget is None else choose_submodel(editor, budget)
    for index in editor.indices(face):
        editor.prepare(index, None if strict else editor.submodel)
    result = editor.edit(years, face, strict=strict)
    reading = editor.read(result, next(iter(result.years)))
    notes = [*notes, *beyond_reach(eng.weights, reading["age_before"], years)]
    start = time.perf_counter()
    save_photo(output, result.picture, synthetic=bool(result.changes) or strict, like=photo)
    ms |= result.ms | {"write": (time.perf_counter() - start) * 1e3}
    r, c = result.submodel
    data = {
        "output": str(output),
        "faces": len(editor.faces),
        "face": face,
        "submodel": {"r": r, "c": c},
        "years": years,
        **reading,
        "strict": strict,
        "ms": {k: round(v, 2) for k, v in ms.items()},
        "notes": notes,
    }
    text = [
        f"{output}: {years:+g} years with {r} px, c = {c:g}; about {reading['age_before']:.0f} before, "
        f"{reading['age_after']:.0f} after, identity {reading['identity']:.2f} "
        f"({ms['generate'] + ms['blend']:.0f} ms to generate and blend)",
        *notes,
    ]
    report(data, as_json, "\n".join(text))


def face_number(text: str) -> int | str:
    """What --face means: a number, or "all". Raises AgeEditError for anything else."""
    if text == "all":
        return text
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
    low, high = weights.reach(age)
    if low <= years <= high:
        return []
    return [
        f"Beyond {high if years > 0 else low:+.0f} years nothing changes for a face that looks about {age:.0f}: "
        "the networks know no further."
    ]


@main.command()
@click.option(
    "--budget", required=True, type=float, metavar="MS", help="How long a visitor may wait for an edit."
)
@click.option("--fresh", is_flag=True, help="Forget the times in this device's profile and measure again.")
@as_json
def tune(budget, fresh, as_json):
    """Choose the best sub-model within a waiting budget by timing candidates on this device (S4)."""
    from agedit.selection.tuner import Tuner

    def tell(entry):
        if not as_json:
            r, c = entry["submodel"]
            p90 = f"p90 {entry['p90_ms']:7.1f} ms" if "p90_ms" in entry else " " * 14
            click.echo(f"{r:5d} px  c = {c:<5g} {p90}  {entry['verdict']}: {entry['reason']}")

    eng = engine()
    result = Tuner(eng).choose(budget, fresh, tell)
    s = result["submodel"]
    report(
        result,
        as_json,
        "\n".join(
            [
                f"{s['r']} px, c = {s['c']:g}: p50 {result['p50_ms']} ms, p90 {result['p90_ms']} ms, "
                f"chosen in {result['seconds']} s; profile {result['profile']}",
                *result["notes"],
            ]
        ),
    )


@main.command()
@click.option("--import", "path", metavar="FILE", help="Keep another device's profile, to compare with.")
@as_json
def profiles(path, as_json):
    """Devices whose times are known, and what each sub-model costs there."""
    from agedit.paths import profiles_folder
    from agedit.selection import profiles

    folder = profiles_folder()
    if path:
        profiles.import_profile(path, folder)
    readable, left_out = profiles.survey(folder)
    rows = [
        {
            "device": p["device"],
            "power": p["power"],
            "path": p["path"],
            "times": [
                {"r": r, "c": c, "p50_ms": t.p50, "p90_ms": t.p90, "n": len(t.runs)}
                for (r, c), t in sorted(p["times"].items())
            ],
        }
        for p in readable
    ]
    lines = [
        f"{d['device']['processor']}, {d['device']['cores']} cores, {d['device']['threads']} threads\n"
        + "\n".join(
            f"  {t['r']}:{t['c']:g}  p50 {t['p50_ms']:.1f} ms, p90 {t['p90_ms']:.1f} ms" for t in d["times"]
        )
        for d in rows
    ]
    report(
        {"profiles": rows, "left_out": left_out},
        as_json,
        "\n".join(lines + left_out)
        or f"There is no profile in {folder} yet; `python -m agedit tune` makes one.",
    )


@main.command()
@as_json
def info(as_json):
    """What the weights hold: sub-models, their costs, layer counts, hashes, provenance."""
    from agedit.reports.info import describe, table

    data = describe(engine())
    report(data, as_json, table(data))


@main.command()
@click.argument("folder")
@click.option("--limit", type=click.IntRange(min=1), help="Judge the first N photos only.")
@as_json
def evaluate(folder, limit, as_json):
    """Judge the edits of every photo in FOLDER with the shipped estimators."""
    from tqdm import tqdm

    from agedit.reports.evaluate import evaluate as run

    data = run(folder, engine(), limit, lambda files: tqdm(files, unit="photo", file=sys.stderr))
    report(data, as_json, json.dumps({k: v for k, v in data.items() if k != "rows"}, indent=1))


@main.command()
@click.argument("photos", nargs=-1, required=True)
@click.option("-o", "--output", required=True, metavar="OUT.png")
@click.option("--years", default="-20,0,20,40", show_default=True, help="One column each.")
@click.option("--submodel", metavar="R:C")
@click.option("--strict", is_flag=True, help="G(f') alone.")
@click.option("--size", default=256, show_default=True, type=click.IntRange(min=32), help="Pixels of a face.")
def sheet(photos, output, years, submodel, strict, size):
    """A sheet of edits of PHOTOS (pictures or folders), one row a face, one column an age."""
    from agedit.photo import check_output, save_photo
    from agedit.reports.sheet import pictures_in
    from agedit.reports.sheet import sheet as make
    from agedit.submodel import parse

    check_output(output)
    try:
        columns = [int(y) for y in years.split(",")]
    except ValueError:
        raise AgeEditError(f"--years {years} is not a list of whole years such as -20,0,20.") from None
    eng = engine()
    choice = parse(submodel, eng.weights.resolutions) if submodel else None
    paths = [p for photo in photos for p in pictures_in(photo)]
    save_photo(output, make(paths, eng, columns, choice, strict, size), synthetic=strict or any(columns))
    click.echo(output)


@main.command()
@click.option("--peer-wheel", metavar="WHEEL", help="random-face==2021.7.21.1, to time MobileStyleGAN too.")
@click.option("--no-peers", is_flag=True, help="Leave the peers out.")
@click.option("--plot", metavar="PNG", help="Draw the figures too.")
@as_json
def bench(peer_wheel, no_peers, plot, as_json):
    """Time everything on this device and print ratios with their bounds; takes some minutes, best on a quiet machine."""
    from agedit.bench.report import plot as draw
    from agedit.bench.report import table
    from agedit.bench.run import bench as run

    data = run(peer_wheel, not no_peers, lambda words: click.echo(words, err=True))
    if plot:
        draw(data, plot)
    report(data, as_json, table(data))


@main.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments):
    """Train on your own faces: prepare, teacher, autoencoder, age-vector, generator, export, calibrate, all."""
    try:
        from agedit.training.cli import stages

        stages.main(args=list(arguments), prog_name="python -m agedit train", standalone_mode=True)
    except ModuleNotFoundError as error:
        raise AgeEditError(
            f"Training needs the package {error.name}; run `pip install -r requirements-train.txt`."
        ) from None


if __name__ == "__main__":
    if sys.argv[1:2] != ["train"]:  # torch and NCCL have things to say there
        quiet_libraries()
    main()
