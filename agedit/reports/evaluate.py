"""Judge the edits of a folder of photos with the shipped estimators, through the same path as the app."""

import cv2
import numpy as np

from agedit.align import unalign
from agedit.editor import AGES, AgeEditor
from agedit.errors import AgeEditError
from agedit.estimators import SAME_EXPRESSION, expression
from agedit.photo import load_photo
from agedit.reports.sheet import pictures_in

JOURNEY = range(-30, 41, 10)


def rank_correlation(a, b):
    """Spearman's; equal values share their mean rank, so a slider that does nothing is not called steady."""
    rank = lambda v: np.array([(np.sum(np.array(v) < x) + np.sum(np.array(v) <= x)) / 2 for x in v])
    if len(set(a)) < 2 or len(set(b)) < 2:
        return 0.0
    return float(np.corrcoef(rank(a), rank(b))[0, 1])


def evaluate(folder, engine, limit=None, progress=iter):
    """`evaluate_files` on every picture of `folder`, or the first `limit`."""
    return evaluate_files(pictures_in(folder)[:limit], engine, progress)


def evaluate_files(files, engine, progress=iter):
    """Every photo's largest face, at the full network and the smallest sub-model.

    Args:
        files: paths. progress: wraps them, e.g. tqdm.

    Returns:
        A dict of figures; `rows` has one entry a photo, `skipped` one sentence for each that could not be used.
    Raises AgeEditError when nothing could be judged.
    """
    full, smallest = engine.weights.order[0], engine.weights.candidates[0]
    editor, rows, skipped = AgeEditor(engine), [], []
    low, high = engine.weights.years_range
    for path in progress(files):
        try:
            editor.set_photo(load_photo(path))
        except AgeEditError as error:
            skipped.append(f"{path.name}: {error}")
            continue
        row = {"file": path.name}
        crop = editor.prepare(0).crop
        age, male = engine.readout.age(crop)
        row["age"], mood = age, engine.readout.mood(crop).argmax()

        def judge(years, submodel=full, strict=False):
            edit = editor.edit(years, submodel=submodel, strict=strict)
            result = editor.read(edit)
            return edit, result["age_after"] - age, result["identity"], result["identity_l2"]

        for name, years in (("plus30", 30), ("minus20", -20), ("plus17", 17)):
            if low <= years <= high and (years > 0 or age > 35) and AGES[0] <= age + years <= AGES[1]:
                edit, change, cosine, l2 = judge(years)
                small = judge(years, smallest)
                shown, small_shown = editor.crop(edit), editor.crop(small[0])
                gender = engine.readout.age(shown)[1]
                moved = expression_change(engine, editor, edit)
                row[name] = {
                    "change": change,
                    "cosine": cosine,
                    "l2": l2,
                    "flip": (gender > 0.5) != (male > 0.5),
                    "mood": bool(engine.readout.mood(shown).argmax() == mood),
                    "expression": None if moved is None else moved.round(4).tolist(),
                    "small_change": small[1],
                    "small_l2": small[3],
                    "small_mse": float(np.mean((shown / 255 - small_shown / 255) ** 2)),
                    "outside": outside(editor, edit),
                }
        steps = [y for y in JOURNEY if low <= y <= high and AGES[0] + 4 <= age + y <= AGES[1]]
        row["monotony"] = rank_correlation(steps, [judge(y)[1] for y in steps]) if len(steps) > 2 else None
        strict = [judge(y, strict=True) for y in (0, min(30, high))]
        row["strict"] = {"l2_at_0": strict[0][3], "change_at_30": strict[1][1] - strict[0][1]}
        rows.append(row)
    if not rows:
        raise AgeEditError(f"None of the {len(files)} pictures has a usable face. First: {skipped[0]}")
    # LPIPS needs a trunk that does not ship: it was measured on held-out photos when the weights were calibrated
    lpips = {(q["r"], q["c"]): q["lpips"] for q in engine.weights.manifest.get("quality", [])}
    return {
        "photos": len(rows),
        "submodel": list(full),
        "smallest": list(smallest),
        "smallest_lpips": lpips.get(smallest),
        **summary(rows),
        "skipped": skipped,
        "rows": rows,
    }


def expression_change(engine, editor, edit):
    """By how much the first face's `readout.expression` (5,) differs from the photo's; None where no face is found any more."""
    try:
        faces = engine.find_faces(edit.picture)
    except AgeEditError:
        return None
    before = editor.faces[0].points
    after = min(
        (face.points for face in faces), key=lambda points: np.linalg.norm(points.mean(0) - before.mean(0))
    )
    return expression(after) - expression(before)


def outside(editor, edit):
    """Largest change, in levels of 255, of a pixel that neither the first face's mask nor its hair beyond reaches: 0 if nothing else moves."""
    prepared, shape = editor.prepare(0), editor.rgb.shape[:2]
    reached = unalign(prepared.mask, prepared.face, shape) != 0
    reached |= unalign(prepared.beyond.weight, prepared.beyond.face, shape) != 0
    reached = (
        cv2.dilate(reached.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    )  # what interpolation reaches
    apart = np.abs(edit.picture.astype(np.int16) - editor.rgb).max(2)
    return int(apart[~reached].max(initial=0))


def summary(rows):
    """The figures over all rows; None where no photo qualified."""
    result = {}
    for name in ("plus30", "minus20", "plus17"):
        cells = [row[name] for row in rows if name in row]
        mean = lambda key: round(float(np.mean([c[key] for c in cells])), 3) if cells else None
        share = lambda test: round(float(np.mean([test(c) for c in cells])), 3) if cells else None
        result[name] = {
            "photos": len(cells),
            "judged_change": mean("change"),
            "cosine": mean("cosine"),
            "l2": mean("l2"),
            "same_person": share(lambda c: c["l2"] < 0.6),
            "gender_flips": share(lambda c: c["flip"]),
            "expression_kept": share(
                lambda c: c["expression"] is not None and (np.abs(c["expression"]) <= SAME_EXPRESSION).all()
            ),
            "expression_read_alike": share(lambda c: c["mood"]),
            "mouth_corners_lower": share(lambda c: (c["expression"] or [0])[0]),
            "right_direction": share(lambda c: (c["change"] > 0) == (name != "minus20")),
            "smallest_judged_change": mean("small_change"),
            "smallest_age_difference": share(lambda c: abs(c["small_change"] - c["change"])),
            "smallest_mse": round(float(np.mean([c["small_mse"] for c in cells])), 6) if cells else None,
            "outside_the_mask": max((c["outside"] for c in cells), default=None),
        }
    monotony = [row["monotony"] for row in rows if row["monotony"] is not None]
    result["rank_correlation_median"] = round(float(np.median(monotony)), 3) if monotony else None
    result["strict"] = {
        k: round(float(np.mean([row["strict"][k] for row in rows])), 3) for k in rows[0]["strict"]
    }
    return result
