"""The command line: python -m agedit edit | tune | profiles | info | bench | sheet | evaluate | train."""

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from agedit import __version__
from agedit.commands import PlainErrors, as_json, engine, report
from agedit.edit_command import edit
from agedit.errors import AgeEditError

if TYPE_CHECKING:
    from agedit.selection.profiles import Loaded
    from agedit.selection.selector import Entry


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
@click.version_option(__version__, prog_name="agedit")
def main() -> None:
    """Age editing that runs on your own machine. No photo leaves it."""


main.add_command(edit)


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
    from agedit.submodel import label

    device = row["device"]
    title = f"{device['processor']}, {device['cores']} cores, {device['threads']} threads"
    lines = [
        f"  {label((t['r'], t['c']))}  p50 {t['p50_ms']:.1f} ms, p90 {t['p90_ms']:.1f} ms"
        for t in row["times"]
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
