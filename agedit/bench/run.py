"""What each sub-model costs on this device, as ratios of one run: to the device's own convolution rate, to each other, to peers.

Absolute times change with what else the machine does; ratios of interleaved runs do not, so they are what is reported.
"""

import tempfile
import time

import numpy as np

from agedit.bench.choice import by_faces, by_visitors, choosing, promise
from agedit.bench.page import light
from agedit.editor import AgeEditor
from agedit.photo import encode_photo, load_photo
from agedit.runtime import (
    Engine,
    floating,
    measure_ranges,
    one_heap,
    open_session,
    open_submodel,
    openvino_core,
    quickest_precision,
    runtime_name,
    usable_cores,
    uses_openvino,
)
from agedit.runtime.graphs import Builder, convolutions_graph, generator_graph, photo_inputs
from agedit.selection.times import Times
from agedit.selection.tuner import REFERENCE, SHOWN, Tuner
from agedit.submodel import FEATURES, START, STYLE, blocks, cost

YARDSTICK = (128, 64, 8)  # channels, edge in pixels, convolutions in a row
SHAPES = (
    (128, 1.0),
    (128, 0.25),
    (256, 1.0),
    (256, 0.25),
    (512, 1.0),
    (512, 0.25),
    (1024, 1.0),
    (1024, 0.25),
)
RUNS = 9
# What is wanted: shares of the yardstick's rate, times of c = 1 over c = 1/4, and other bounds.
SHARES = {(128, 1.0): 0.85, (256, 1.0): 0.80, (1024, 1.0): 0.60, (256, 0.25): 0.50, (1024, 0.25): 0.30}
NARROW = {256: 7.0, 512: 5.0, 1024: 5.0}
WINDOWS = 4  # of 512 px in a picture of 1024 px


def random_generator(largest=1024, seed=0):
    """Arrays of an untrained full generator, for times at resolutions that were not trained yet."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)
    arrays = {"start": draw(1, START, 4, 4)}
    for i in range(8):
        arrays |= {
            f"mapping.{i}.weight": draw(STYLE, FEATURES),
            f"mapping.{i}.bias": np.zeros(STYLE, np.float32),
        }
    for size, cin, cout in blocks(largest):
        for layer, n, extra in (("conv1", cin, 3), ("conv2", cout, 0)):
            p = f"blocks.{size}.{layer}."
            arrays |= {
                p + "weight": draw(cout, n + extra, 3, 3),
                p + "bias": np.zeros(cout, np.float32),
                p + "style_weight": draw(n, STYLE),
                p + "style_bias": np.ones(n, np.float32),
            }
        arrays |= {
            f"blocks.{size}.to_rgb.weight": draw(3, cout, 1, 1),
            f"blocks.{size}.to_rgb.bias": np.zeros(3, np.float32),
        }
    return arrays


def convolutions(threads, precision="f32", openvino=False):
    """() -> one run of the yardstick: plain 3x3 convolutions in a row, the layout left to the runtime; and its multiply-adds."""
    channels, edge, count = YARDSTICK
    model = convolutions_graph(*YARDSTICK, precision == "i8")
    feed = {"x": np.random.default_rng(0).standard_normal((1, channels, edge, edge)).astype(np.float32)}
    if openvino:
        run = open_submodel(model, threads, precision)
        return (lambda: run(feed)), count * channels * channels * 9 * edge * edge
    session = open_session(model, threads)
    return (lambda: session.run(None, feed)[0]), count * channels * channels * 9 * edge * edge


def unet(threads, edge=512):
    """() -> one run of a U-Net of about FRAN's size (Zoss et al., 2022: 193 G MACs for 512 px) with random weights, and its multiply-adds."""
    b, rng, total = Builder(), np.random.default_rng(0), [0]

    def conv(x, cin, cout, size):
        total[0] += 9 * cin * cout * size * size
        weight = rng.standard_normal((cout, cin, 3, 3)) / (3 * cin**0.5)
        return b.add(
            "LeakyRelu", b.add("Conv", x, b.constant(weight), kernel_shape=[3, 3], pads=[1] * 4), alpha=0.2
        )

    widths, x, size, skips, n = (64, 128, 256, 512, 512), "x", edge, [], 5
    for k, w in enumerate(widths):
        x = conv(conv(x, n, w, size), w, w, size)
        n = w
        if k < len(widths) - 1:
            skips.append((x, w))
            x, size = b.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), size // 2
    for skip, w in reversed(skips):
        size *= 2
        x = b.add("Resize", x, "", b.constant([1, 1, 2, 2]), mode="linear")
        x = conv(conv(b.add("Concat", x, skip, axis=1), n + w, w, size), w, w, size)
        n = w
    b.add("Conv", x, b.constant(rng.standard_normal((3, n, 1, 1))), kernel_shape=[1, 1], output="y")
    run = open_submodel(b.model({"x": [1, 5, edge, edge]}, "y", [1, 3, edge, edge]), threads)
    feed = {"x": rng.standard_normal((1, 5, edge, edge)).astype(np.float32)}
    return (lambda: run(feed)), total[0]


def stylegan(wheel, threads):
    """() -> one 1024 px picture by MobileStyleGAN's own OpenVINO network, out of the `random-face` wheel."""
    import tempfile
    import zipfile

    with tempfile.TemporaryDirectory(prefix="agedit-") as folder:
        with zipfile.ZipFile(wheel) as z:
            for end in ("xml", "bin"):
                z.extract(f"random_face/data/SynthesisNetwork.{end}", folder)
        network = openvino_core().compile_model(
            f"{folder}/random_face/data/SynthesisNetwork.xml",
            "CPU",
            {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": floating()},
        )
    w = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)
    return lambda: network([w])


def interleaved(tasks, runs=RUNS, tell=None, again=False):
    """{name: Times} of the callables `tasks`, after warm-up, in turns and in random order. again: the second of two runs counts, as of a
    slider's moves, of which each finds the caches as the one before left them."""
    rng, times = np.random.default_rng(0), {name: Times() for name in tasks}
    for turn in range(-2, runs):
        for name in rng.permutation(np.array(list(tasks), dtype=object)):
            if again:
                tasks[name]()
            start = time.perf_counter()
            tasks[name]()
            if turn >= 0:
                times[name].runs.append((time.perf_counter() - start) * 1e3)
        if tell:
            tell(turn + 3, runs + 2)
    return times


def networks(tell=None):
    """Random-weight G_{r,c} against the rate of plain convolutions, in turns, in every precision that this device uses.

    Returns:
        {"precisions": {name: {"yardstick_gflops", "submodels": [{r, c, p50_ms, p90_ms, gmacs, "share" of that rate}],
        "narrow": {r: time of c = 1 over c = 1/4}}}, "extract_ms", "open_ms": {"r:c": ms}}. The fp32 yardstick is the best of the runtimes'.
    """
    threads, arrays, rng, extract, opened = (
        usable_cores(),
        random_generator(),
        np.random.default_rng(1),
        {},
        {},
    )
    names = list(dict.fromkeys(("f32", quickest_precision() if uses_openvino() else "f32")))
    yards = {("f32", "onnxruntime"): convolutions(threads)}
    if uses_openvino():
        yards |= {(name, "openvino"): convolutions(threads, name, True) for name in names}
    macs, tasks = yards["f32", "onnxruntime"][1], {k: run for k, (run, _) in yards.items()}
    for name in names:
        for r, c in SHAPES:
            feed = {"f": rng.standard_normal((1, FEATURES)).astype(np.float32)} | photo_inputs(
                rng.uniform(-1, 1, (1, 3, r, r)).astype(np.float32)
            )
            measured = measure_ranges(arrays, r, c, [feed]) if name == "i8" else None
            start = time.perf_counter()
            graph = generator_graph(arrays, r, c, measured)
            middle = time.perf_counter()
            run = open_submodel(graph, threads, name)
            extract[f"{r}:{c:g}"] = round((middle - start) * 1e3, 1)
            opened[f"{r}:{c:g}"] = round((time.perf_counter() - middle) * 1e3, 1)
            tasks[name, r, c] = lambda run=run, feed=feed: run(feed)
    times, result = interleaved(tasks, tell=tell, again=True), {}
    for name in names:
        rate = macs / min(times[k].p50 for k in yards if k[0] == name)
        gmacs = lambda r, c: cost(r, c)["macs"]
        result[name] = {
            "yardstick_gflops": round(2 * rate / 1e6, 1),
            "submodels": [
                {
                    "r": r,
                    "c": c,
                    "p50_ms": round(times[name, r, c].p50, 2),
                    "p90_ms": round(times[name, r, c].p90, 2),
                    "gmacs": round(gmacs(r, c) / 1e9, 2),
                    "share": round(gmacs(r, c) / times[name, r, c].p50 / rate, 3),
                }
                for r, c in SHAPES
            ],
            "narrow": {
                str(r): round(times[name, r, 1.0].p50 / times[name, r, 0.25].p50, 2)
                for r in sorted({r for r, _ in SHAPES})
            },
        }
    return {"precisions": result, "extract_ms": extract, "open_ms": opened}


def peers(engine, wheel=None, tell=None):
    """A finished edit of a 1024 px photo against the peers, in turns: {"ms": {name: median}, "picked": "r:c", "unet_gmacs"}.

    wheel: path of the `random-face` wheel, for MobileStyleGAN (needs the package openvino).
    """
    threads, full, smallest = engine.cores, engine.weights.candidates[-1], engine.weights.candidates[0]
    with tempfile.TemporaryDirectory(prefix="agedit-") as folder:
        picked = Tuner(engine, folder).choose(100)["submodel"]
    picked = picked["r"], picked["c"]
    name = lambda rc: f"ours {rc[0]}:{rc[1]:g}"
    tasks = {name(rc): _whole_edit(engine, rc) for rc in (smallest, picked, full)}
    tasks["ours 1024:1, random weights"] = _whole_edit(engine, full, random_generator())
    window, macs = unet(threads)
    tasks["unet"] = window
    if wheel:
        tasks["mobilestylegan"] = stylegan(wheel, threads)
    timed = interleaved(tasks, runs=5, tell=tell)
    return {
        "ms": {k: round(t.p50 * (WINDOWS if k == "unet" else 1), 1) for k, t in timed.items()},
        "picked": name(picked),
        "unet_gmacs": round(macs / 1e9, 1),
    }


def _whole_edit(engine, submodel, arrays=None):
    """() -> what a visitor waits for with a 1024 px photo: shift, generate, blend, encode. arrays: a generator to run instead, at 1024:1."""
    editor, turn = AgeEditor(engine, submodel), [0]
    editor.set_photo(load_photo(REFERENCE))
    prepared = editor.prepare(0, submodel)
    if arrays:
        feed = {"f": prepared.f, **engine.inputs(prepared.crop, 1024)}
        measured = measure_ranges(arrays, 1024, 1.0, [feed]) if engine.precision == "i8" else None
        network = open_submodel(
            generator_graph(arrays, 1024, 1.0, measured), engine.threads, engine.precision
        )
        base = network(feed)

    def run():
        turn[0] += 1
        if arrays:
            change = (network(feed | {"f": prepared.f + np.float32(turn[0] * 0.01)}) - base)[0].transpose(
                1, 2, 0
            )
            change = prepared.tone(1024)(change * 127.5)
            picture = prepared.paste(editor.view(SHOWN), editor.view(SHOWN), change, editor.rgb.shape)
        else:
            picture = editor.edit(10 + turn[0] % 20, limit=SHOWN).picture
        encode_photo(picture, "JPEG")

    return run


def lowered(engine):
    """What lower precision costs in quality: the picture shown in it against fp32's on the portraits, at -20 and +30 years.

    Returns {"precision", "levels" (mean absolute, of 255, over the whole crop), "worst_levels", "judged_years_apart"}; None where fp32 is what runs.
    """
    if engine.precision == "f32":
        return None
    full, rows, worst = engine.weights.candidates[-1], [], 0
    exact = open_submodel(generator_graph(engine.weights.part("generator"), *full), engine.cores, "f32")
    for path in sorted(REFERENCE.parent.glob("*.jpg")):
        editor = AgeEditor(engine, full)
        editor.set_photo(load_photo(path))
        prepared = editor.prepare(0)
        photos, n = engine.inputs(prepared.crop, full[0]), engine.weights.age_vector
        run = lambda years: exact(
            {
                "f": prepared.f
                + np.float32(engine.weights.alpha(years, prepared.age, prepared.blur, *full)) * n,
                **photos,
            }
        )
        for years in (-20, 30):
            change = (run(years) - run(0))[0].transpose(1, 2, 0) * 127.5
            precise = prepared.shown(prepared.crop, prepared.tone(full[0])(change))
            shown = editor.crop(editor.edit(years))
            apart = np.abs(shown.astype(np.int16) - precise)
            worst = max(worst, int(apart.max()))
            rows.append((apart.mean(), abs(engine.readout.age(shown)[0] - engine.readout.age(precise)[0])))
    levels, years = np.mean(rows, 0)
    return {
        "precision": engine.precision,
        "levels": round(float(levels), 3),
        "worst_levels": worst,
        "judged_years_apart": round(float(years), 2),
    }


def bench(wheel=None, with_peers=True, tell=None):
    """Everything in one run: {"runtime", "threads", "light", "networks", "lowered", "moves", "by_size", "by_faces", "by_visitors",
    "choosing", "promise", "peers"}; see the functions of these names.

    wheel: path of the `random-face` wheel, for the first peer. tell: (words) -> None, called before each part.
    """
    one_heap()  # as the page has it: what a move costs is also where its arrays come from
    tell = tell or (lambda words: None)
    tell("a fresh process")
    result = {
        "runtime": runtime_name(),
        "threads": usable_cores(),
        "light": light(),
    }  # first: a child inherits its parent's peak
    tell("networks and the yardstick")
    result["networks"] = networks()
    engine = Engine()
    for name, part in (
        ("lowered", lowered),
        ("moves", moves),
        ("by_size", growth),
        ("by_faces", by_faces),
        ("by_visitors", by_visitors),
        ("choosing", choosing),
        ("promise", promise),
    ):
        tell(name.replace("_", " "))
        result[name] = part(engine)
    if with_peers:
        tell("peers")
        result["peers"] = peers(engine, wheel)
    return result


def moves(engine, runs=40):
    """A slider's move: {"ms" from years to encoded picture, "share" of it that is generate + blend + encode, "switch_ratio": a move
    right after another sub-model's over one after its own, "read_ms": the age on the slider, which the page reads after each}."""
    editor, (one, other) = AgeEditor(engine), (engine.weights.candidates[-1], engine.weights.candidates[0])
    editor.set_photo(load_photo(REFERENCE))
    for rc in (one, other):
        editor.prepare(0, rc)
    whole, parts, reads, after = [], [], [], {one: [], other: []}
    for k, swap in enumerate(np.random.default_rng(0).random(runs * 2) < 0.5):
        if swap:  # the other sub-model gets a move in between
            editor.edit(10 + k % 20, submodel=other, limit=SHOWN)
        start = time.perf_counter()
        edit = editor.edit(10 + k % 20, submodel=one, limit=SHOWN)
        middle = time.perf_counter()
        encode_photo(edit.picture, "JPEG")
        end = time.perf_counter()
        editor.age(edit)
        reads.append((time.perf_counter() - end) * 1e3)
        whole.append((end - start) * 1e3)
        parts.append(edit.ms["generate"] + edit.ms["blend"] + (end - middle) * 1e3)
        after[other if swap else one].append(whole[-1])
    median = lambda v: float(np.median(v[3:]))
    return {
        "ms": round(median(whole), 2),
        "share": round(median(parts) / median(whole), 3),
        "switch_ratio": round(median(after[other]) / median(after[one]), 2),
        "read_ms": round(median(reads), 2),
    }


def growth(engine, megapixels=(0.3, 1, 3, 12, 50)):
    """Stages in ms by the photo's size, the sizes in random turns: only the paste-back may grow."""
    import cv2

    photo, submodel, rng = load_photo(REFERENCE), engine.weights.candidates[-1], np.random.default_rng(0)
    editors, took = [AgeEditor(engine, submodel) for _ in megapixels], [[] for _ in megapixels]
    for mega, editor in zip(megapixels, editors):
        scale = (mega * 1e6 / (photo.shape[0] * photo.shape[1])) ** 0.5 * 0.999
        editor.set_photo(cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC))
        editor.prepare(0, submodel)
    for turn in range(11):
        for k in rng.permutation(len(editors)):
            took[k].append(editors[k].edit(10 + turn).ms)
    middle = lambda edits, stage: round(float(np.median([e[stage] for e in edits[2:]])), 2)
    return [
        {"megapixels": mega, **{stage: middle(edits, stage) for stage in edits[0]}}
        for mega, edits in zip(megapixels, took)
    ]
