"""Does S4 keep its word on this device? The promise over many edits, the choice against timing everything, and growth
with faces and visitors. All with real edits of the reference portrait, timed in turns in one run."""
import tempfile
import threading
import time

import numpy as np

from agedit.editor import AgeEditor
from agedit.photo import encode_photo, load_photo
from agedit.selector import LEAST, MOST, Times, frontier
from agedit.submodel import cost
from agedit.tune import REFERENCE, SHOWN, Tuner, macs

NOISE = 0.06          # a p90 this close to a budget may fall on either side of it in the next run


def exhaustive(tuner, runs=MOST):
    """{(r, c): Times} of everything that could be chosen, in random turns, and the seconds that it took."""
    candidates = frontier(tuner.engine.weights.order, macs)
    times, rng, start = {rc: Times() for rc in candidates}, np.random.default_rng(0), time.perf_counter()
    for turn in range(-3, runs):
        for k in rng.permutation(len(candidates)):
            took = tuner.time_once(candidates[k])
            if turn >= 0:
                times[candidates[k]].runs.append(took)
    return times, time.perf_counter() - start


def judge(chosen, times, order, budget):
    """Whether `chosen` is the best that fits by exhaustive `times`: "best", "noise" (a p90 at the budget's edge), "worse"."""
    p90 = {rc: t.p90 for rc, t in times.items()}
    fits = [rc for rc in order if rc in p90 and p90[rc] <= budget]
    best = fits[0] if fits else min(p90, key=p90.get)
    if chosen == best:
        return "best"
    better, worse = sorted((chosen, best), key=order.index)         # one was thought to fit, the other is the safe one
    near = all(abs(p90[rc] / budget - 1) <= NOISE for rc in order[order.index(better):order.index(worse)] if rc in p90)
    return "noise" if near else "worse"


def choosing(engine, budgets=40, seed=0):
    """The choice for random budgets against exhaustive timing in the same run, and what choosing costs beside it.

    Returns:
        {"budgets", "best", "within_noise", "worse" (shares), "seconds", "exhaustive_seconds", "share_of_exhaustive"}.
    """
    rng, verdicts = np.random.default_rng(seed), []
    with tempfile.TemporaryDirectory(prefix="agedit-") as folder:
        tuner = Tuner(engine, folder)
        times, seconds = exhaustive(tuner)
        low, high = min(t.p90 for t in times.values()), max(t.p90 for t in times.values())
        middle = float(np.sqrt(low * high))
        first = tuner.choose(middle, fresh=True)["seconds"]
        for budget in np.exp(rng.uniform(np.log(low * 0.9), np.log(high * 1.2), budgets)):
            chosen = tuner.choose(float(budget))["submodel"]
            verdicts.append(judge((chosen["r"], chosen["c"]), times, engine.weights.order, budget))
    share = lambda word: round(verdicts.count(word) / budgets, 3)
    return {"budgets": budgets, "best": share("best"), "within_noise": share("noise"), "worse": share("worse"),
            "seconds": round(first, 2), "exhaustive_seconds": round(seconds, 2), "share_of_exhaustive": round(first / seconds, 3)}


def promise(engine, budgets=6, edits=300):
    """Edits after tuning, at budgets from "only the smallest fits" to "everything fits", in turns.

    Returns:
        [{"budget_ms", "submodel", "edits", "p50_ms", "p90_ms", "p90_share" (of the budget), "within_125"}].
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="agedit-") as folder:
        tuner = Tuner(engine, folder)
        times, _ = exhaustive(tuner, LEAST)
        low, high = min(t.p90 for t in times.values()) * 1.15, max(t.p90 for t in times.values()) * 1.25
        for budget in np.geomspace(low, high, budgets):
            chosen = tuner.choose(float(budget))["submodel"]
            rows.append((float(budget), (chosen["r"], chosen["c"]), Times()))
        for _, submodel, _ in rows:
            tuner.time_once(submodel)
        for _ in range(edits):
            for _, submodel, seen in rows:
                seen.runs.append(tuner.time_once(submodel))
    return [{"budget_ms": round(b, 1), "submodel": list(rc), "edits": edits, "p50_ms": round(t.p50, 1), "p90_ms": round(t.p90, 1),
             "p90_share": round(t.p90 / b, 3), "within_125": round(float(np.mean(np.array(t.runs) <= 1.25 * b)), 4)} for b, rc, t in rows]


def by_faces(engine, counts=(1, 2, 4)):
    """An edit of everyone in a photo of the portrait repeated: milliseconds by the number of faces, as a ratio to one."""
    photo, submodel, rows = load_photo(REFERENCE), engine.weights.candidates[-1], []
    for n in counts:
        editor = AgeEditor(engine, submodel)
        editor.set_photo(np.hstack([photo] * n))
        for k in editor.indices("all"):
            editor.prepare(k, submodel)
        runs = []
        for k in range(6):
            start = time.perf_counter()
            editor.edit(10 + k, face="all")
            runs.append((time.perf_counter() - start) * 1e3)
        rows.append({"faces": len(editor.faces), "ms": round(float(np.median(runs[1:])), 1)})
    return [r | {"ratio": round(r["ms"] / rows[0]["ms"], 2)} for r in rows]


def by_visitors(engine, counts=(1, 2, 4, 8), edits=12):
    """Visitors who all edit at once, one edit running at a time: what each waits, as a ratio to one visitor's wait.

    "uneven" is the last visitor's time to finish over the first one's: near 1 when the order is fair.
    """
    lock, submodel, photo, rows = threading.Lock(), engine.weights.candidates[-1], load_photo(REFERENCE), []
    for n in counts:
        waits, ends = [], []

        def visit(editor):
            for k in range(edits):
                start = time.perf_counter()
                with lock:
                    encode_photo(editor.edit(10 + k, limit=SHOWN).picture, "JPEG")
                waits.append((time.perf_counter() - start) * 1e3)
                time.sleep(0.001)               # the next slider move comes later than the next visitor in line
            ends.append(time.perf_counter())
        editors = [AgeEditor(engine, submodel) for _ in range(n)]
        for editor in editors:
            editor.set_photo(photo)
            editor.prepare(0, submodel)
        begin, threads = time.perf_counter(), [threading.Thread(target=visit, args=(e,)) for e in editors]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        rows.append({"visitors": n, "edits": len(waits), "lost": n * edits - len(waits), "p50_ms": round(float(np.median(waits)), 1),
                     "uneven": round((max(ends) - begin) / (min(ends) - begin), 2)})
    return [r | {"ratio": round(r["p50_ms"] / rows[0]["p50_ms"], 2)} for r in rows]
