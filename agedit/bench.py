"""What each sub-model costs on this device, as ratios of one run: to the device's own convolution rate, to each other, to peers.

Absolute times change with what else the machine does; ratios of interleaved runs do not, so they are what is reported.
"""
import subprocess
import sys
import time

import numpy as np

from agedit.editor import AgeEditor
from agedit.graph import Builder, generator_graph
from agedit.photo import encode_photo, load_photo
from agedit.runtime import Engine, open_session, usable_cores
from agedit.selector import Times
from agedit.submodel import FEATURES, START, STYLE, blocks, cost
from agedit.tune import REFERENCE

YARDSTICK = (128, 64, 8)          # channels, edge in pixels, convolutions in a row
SHAPES = ((128, 1.0), (128, 0.25), (256, 1.0), (256, 0.25), (1024, 1.0), (1024, 0.25))
RUNS = 9


def random_generator(largest=1024, seed=0):
    """Arrays of an untrained full generator, for times at resolutions that were not trained yet."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) or 1)).astype(np.float32)
    arrays = {"start": draw(1, START, 4, 4)}
    for i in range(8):
        arrays |= {f"mapping.{i}.weight": draw(STYLE, FEATURES), f"mapping.{i}.bias": np.zeros(STYLE, np.float32)}
    for size, cin, cout in blocks(largest):
        for layer, n, extra in (("conv1", cin, 3), ("conv2", cout, 0)):
            p = f"blocks.{size}.{layer}."
            arrays |= {p + "weight": draw(cout, n + extra, 3, 3), p + "bias": np.zeros(cout, np.float32),
                       p + "style_weight": draw(n, STYLE), p + "style_bias": np.ones(n, np.float32)}
        arrays |= {f"blocks.{size}.to_rgb.weight": draw(3, cout, 1, 1), f"blocks.{size}.to_rgb.bias": np.zeros(3, np.float32)}
    return arrays


def convolutions(threads):
    """() -> one run of the yardstick: plain fp32 3x3 convolutions in a row, the layout left to the runtime."""
    channels, edge, count = YARDSTICK
    b, x, rng = Builder(), "x", np.random.default_rng(0)
    for _ in range(count):
        x = b.add("Conv", x, b.constant(rng.standard_normal((channels, channels, 3, 3)) / (3 * channels ** 0.5)), kernel_shape=[3, 3], pads=[1] * 4)
    b.add("Identity", x, output="y")
    session = open_session(b.model({"x": [1, channels, edge, edge]}, "y", [1, channels, edge, edge]), threads)
    feed = {"x": rng.standard_normal((1, channels, edge, edge)).astype(np.float32)}
    return (lambda: session.run(None, feed)), count * channels * channels * 9 * edge * edge


def unet(threads, edge=512):
    """() -> one run of a U-Net of about FRAN's size (Zoss et al., 2022: 193 G MACs for 512 px) with random weights, and its multiply-adds."""
    b, rng, total = Builder(), np.random.default_rng(0), [0]

    def conv(x, cin, cout, size):
        total[0] += 9 * cin * cout * size * size
        weight = rng.standard_normal((cout, cin, 3, 3)) / (3 * cin ** 0.5)
        return b.add("LeakyRelu", b.add("Conv", x, b.constant(weight), kernel_shape=[3, 3], pads=[1] * 4), alpha=0.2)
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
    session = open_session(b.model({"x": [1, 5, edge, edge]}, "y", [1, 3, edge, edge]), threads)
    feed = {"x": rng.standard_normal((1, 5, edge, edge)).astype(np.float32)}
    return (lambda: session.run(None, feed)), total[0]


def stylegan(wheel, threads):
    """() -> one 1024 px picture by MobileStyleGAN's own OpenVINO network, out of the `random-face` wheel."""
    import tempfile
    import zipfile

    import openvino
    with tempfile.TemporaryDirectory(prefix="agedit-") as folder:
        with zipfile.ZipFile(wheel) as z:
            for end in ("xml", "bin"):
                z.extract(f"random_face/data/SynthesisNetwork.{end}", folder)
        network = openvino.Core().compile_model(f"{folder}/random_face/data/SynthesisNetwork.xml", "CPU", {"INFERENCE_NUM_THREADS": threads})
    w = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)
    return lambda: network([w])


def interleaved(tasks, runs=RUNS, tell=None):
    """{name: Times} of the callables `tasks`, after warm-up, in turns and in random order."""
    rng, times = np.random.default_rng(0), {name: Times() for name in tasks}
    for turn in range(-2, runs):
        for name in rng.permutation(np.array(list(tasks), dtype=object)):
            start = time.perf_counter()
            tasks[name]()
            if turn >= 0:
                times[name].runs.append((time.perf_counter() - start) * 1e3)
        if tell:
            tell(turn + 3, runs + 2)
    return times


def bench(wheel=None, peers=True, tell=None):
    """Everything in one run.

    Args:
        wheel: path of the `random-face` wheel, for the first peer (needs the package openvino). tell: (done, all) -> None.

    Returns:
        {"threads", "yardstick_gflops", "submodels": [{r, c, p50_ms, p90_ms, gmacs, "share" of the yardstick's rate}],
        "narrow": {r: time of c = 1 over c = 1/4}, "extract_ms", "edit": {...}, "peers": {...}, "memory_mb", "start_s"}.
    """
    first = light()            # before this process grows: a child inherits its parent's peak
    threads, arrays = usable_cores(), random_generator()
    yardstick, yard_macs = convolutions(threads)
    tasks, extract = {"yardstick": yardstick}, []
    rng = np.random.default_rng(1)
    for r, c in SHAPES:
        start = time.perf_counter()
        session = open_session(generator_graph(arrays, r, c), threads)
        extract.append((time.perf_counter() - start) * 1e3)
        feed = {"f": rng.standard_normal((1, FEATURES)).astype(np.float32), "photo": rng.uniform(-1, 1, (1, 3, r, r)).astype(np.float32)}
        tasks[r, c] = lambda session=session, feed=feed: session.run(None, feed)
    times = interleaved(tasks, tell=tell)
    rate = yard_macs / times["yardstick"].p50
    result = {"threads": threads, "yardstick_gflops": round(2 * rate / 1e6, 1), "submodels": [
        {"r": r, "c": c, "p50_ms": round(times[r, c].p50, 2), "p90_ms": round(times[r, c].p90, 2), "gmacs": round(cost(r, c)["macs"] / 1e9, 2),
         "share": round(cost(r, c)["macs"] / times[r, c].p50 / rate, 3)} for r, c in SHAPES],
        "narrow": {str(r): round(times[r, 1.0].p50 / times[r, 0.25].p50, 2) for r in sorted({r for r, _ in SHAPES})},
        "extract_ms": {f"{r}:{c:g}": round(v, 1) for (r, c), v in zip(SHAPES, extract)}}
    engine = Engine(threads=threads)
    result["edit"] = growth(engine)
    if peers:
        full, smallest = engine.weights.candidates[-1], engine.weights.candidates[0]
        ours = {f"ours {r}:{c:g}": _whole_edit(engine, (r, c)) for r, c in (smallest, full)}
        window, macs = unet(threads)
        rivals = {"unet 512 px window": window}
        if wheel:
            rivals["mobilestylegan 1024 px"] = stylegan(wheel, threads)
        timed = interleaved(ours | rivals, runs=5, tell=tell)
        windows = 4                                   # of 512 px in a picture of 1024 px
        result["peers"] = {name: round(t.p50 * (windows if name.startswith("unet") else 1), 1) for name, t in timed.items()}
        result["unet_gmacs"] = round(macs / 1e9, 1)
    return result | first


def _whole_edit(engine, submodel):
    """() -> what a visitor waits for with a 1024 px photo: shift, generate, blend, encode."""
    editor, turn = AgeEditor(engine, submodel), [0]
    editor.set_photo(load_photo(REFERENCE))
    editor.prepare(0, submodel)

    def run():
        turn[0] += 1
        encode_photo(editor.edit(10 + turn[0] % 20, limit=1024).picture, "JPEG")
    return run


def growth(engine, megapixels=(0.3, 1, 3, 12, 50)):
    """Stages in ms by the photo's size, and by the number of faces: only the paste-back may grow."""
    import cv2
    photo, rows = load_photo(REFERENCE), []
    editor, submodel = AgeEditor(engine), engine.weights.candidates[-1]
    for mega in megapixels:
        scale = (mega * 1e6 / (photo.shape[0] * photo.shape[1])) ** 0.5 * 0.999
        editor.set_photo(cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC))
        editor.prepare(0, submodel)
        edits = [editor.edit(10 + k, submodel=submodel).ms for k in range(4)][1:]
        rows.append({"megapixels": mega, **{k: round(float(np.median([e[k] for e in edits])), 2) for k in edits[0]}})
    return {"by_size": rows}


def light():
    """Seconds until the command line's own import is done, peak memory of one edit in a fresh process, and whether torch came along."""
    code = ("import sys, time; start = time.perf_counter(); from agedit import AgeEditor, load_photo; e = AgeEditor(); "
            "loaded = time.perf_counter(); e.set_photo(load_photo(sys.argv[1])); e.edit(20); "
            "done = time.perf_counter(); peak = float('nan')\n"
            "try:\n import resource; peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == 'darwin' else 1024)\n"
            "except ImportError: pass\n"
            "print(loaded - start, done - loaded, peak / (1024 * 1024 if sys.platform == 'darwin' else 1), 'torch' in sys.modules)")
    out = subprocess.run([sys.executable, "-c", code, str(REFERENCE)], capture_output=True, text=True, check=True,
                         cwd=REFERENCE.parents[2]).stdout.split()
    return {"load_s": round(float(out[0]), 2), "first_edit_s": round(float(out[1]), 2), "peak_memory_mb": round(float(out[2])) if out[2] != "nan" else None,
            "torch": out[3] == "True"}


def table(data):
    """The result as text for a terminal."""
    lines = [f"{data['threads']} threads; yardstick {data['yardstick_gflops']} GFLOP/s (fp32 3x3 convolutions, 128 channels, 64 px)", "",
             "r:c          p50 ms   G MACs   of the yardstick's rate"]
    lines += [f"{s['r']}:{s['c']:<8g} {s['p50_ms']:8.1f} {s['gmacs']:8.2f}   {s['share']:.0%}" for s in data["submodels"]]
    lines += ["", "c = 1 takes " + ", ".join(f"{v} times as long as c = 1/4 at {k} px" for k, v in data["narrow"].items())]
    lines += ["", "photo size: " + "; ".join(f"{v['megapixels']} MP generate {v['generate']} ms, blend {v['blend']} ms" for v in data["edit"]["by_size"])]
    if "peers" in data:
        lines += ["", "a finished 1024 px edit: " + ", ".join(f"{k} {v} ms" for k, v in data["peers"].items())]
    lines += ["", f"loaded in {data['load_s']} s, first edit {data['first_edit_s']} s later, peak memory {data['peak_memory_mb']} MB"]
    return "\n".join(lines)
