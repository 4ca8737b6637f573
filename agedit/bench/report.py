"""What the bench measured as text for a terminal, every figure with its target."""

from collections.abc import Mapping, Sequence

from agedit import submodel
from agedit.bench import targets
from agedit.bench.choice import ChoosingResults
from agedit.bench.growth import FacesCost, SizeCost, VisitorsCost
from agedit.bench.moves import MoveCosts
from agedit.bench.networks import NetworkRates, PrecisionRates
from agedit.bench.page import LightCosts
from agedit.bench.peers import MOBILE_STYLEGAN, OWN_RANDOM, PeerTimes
from agedit.bench.precision import PrecisionCost
from agedit.bench.promise import PromiseRow
from agedit.bench.run import BenchResults
from agedit.bench.targets import Target

NAME_WIDTH = 52
"""Characters of a figure's name."""

FIGURE_WIDTH = 16
TARGET_WIDTH = 12

PASTE_BACK_FROM = 3
"""Megapixels: where a face is smaller than the change, its paste-back costs no less."""


def table(data: BenchResults) -> str:
    """Every figure with its target."""
    lines = [f"{data['runtime']}, {data['threads']} threads", ""]
    lines += _network_section(data["networks"])
    lines += _move_section(data["moves"])
    if data["lowered"]:
        lines += _precision_section(data["lowered"])
    lines += _start_section(data["light"])
    lines += _choosing_section(data["choosing"])
    for row in data["promise"]:
        lines += _promise_section(row)
    if "peers" in data:
        lines += _peer_section(data["peers"])
    lines += _size_section(data["by_size"])
    lines += _faces_section(data["by_faces"])
    lines += _visitors_section(data["by_visitors"])
    lines += ["", *_growth_details(data["by_size"], data["by_faces"], data["by_visitors"])]
    return "\n".join(lines)


def _line(name: str, shown: str, target: Target | None = None, figure: float = 0.0) -> str:
    """A figure as it is shown, its target, and whether it is met by the `figure` itself."""
    wanted = ""
    verdict = ""
    if target:
        wanted = target.text
        verdict = "met" if target.test(figure) else "not met"
    return f"{name:<{NAME_WIDTH}} {shown:>{FIGURE_WIDTH}}   {wanted:<{TARGET_WIDTH}} {verdict}".rstrip()


def _network_section(networks: NetworkRates) -> list[str]:
    lines = []
    for name, rates in networks["precisions"].items():
        lines += _precision_rates(name, rates)
    extracting = _slowest("extracting a sub-model from the weights", networks["extract_ms"])
    opening = _slowest("compiling it, once", networks["open_ms"])
    lines.append(_line(*extracting, targets.EXTRACT_MS, max(networks["extract_ms"].values())))
    lines.append(_line(*opening))
    return lines


def _precision_rates(name: str, rates: PrecisionRates) -> list[str]:
    lines = [f"{name}: plain convolutions run at {rates['yardstick_gflops']} GFLOP/s; random weights"]
    for row in rates["submodels"]:
        name_of_submodel = submodel.label((row["r"], row["c"]))
        label = f"  {name_of_submodel}, {row['gmacs']} G MACs, {row['p50_ms']} ms, of that rate"
        target = targets.share_target((row["r"], row["c"]))
        lines.append(_line(label, f"{row['share']:.0%}", target, row["share"]))
    for resolution, ratio in rates["narrow"].items():
        label = f"  {resolution} px, c = 1 over c = 1/4"
        lines.append(_line(label, f"{ratio} times", targets.narrow_target(int(resolution)), ratio))
    return lines


def _slowest(words: str, took: Mapping[str, float]) -> tuple[str, str]:
    """Name and figure of the slowest of {name of a sub-model: ms}."""
    name = max(took, key=took.__getitem__)
    return f"{words} ({name}, the slowest)", f"{took[name]:.0f} ms"


def _move_section(moves: MoveCosts) -> list[str]:
    share = moves["share"]
    ratio = moves["switch_ratio"]
    return [
        _line(
            f"a slider's move, {moves['ms']} ms: generate + blend + encode",
            f"{share:.0%}",
            targets.MOVE_SHARE,
            share,
        ),
        _line("  reading the age in it, for the slider", f"{moves['read_ms']} ms"),
        _line(
            "  right after another warm sub-model's, over its own",
            f"{ratio} times",
            targets.SWITCH_RATIO,
            ratio,
        ),
    ]


def _precision_section(cost: PrecisionCost) -> list[str]:
    name = f"{cost['precision']} against fp32, the shown picture"
    return [
        _line(name, f"{cost['levels']} levels", targets.PRECISION_LEVELS, cost["levels"]),
        _line("  judged age apart", f"{cost['judged_years_apart']} years"),
    ]


def _start_section(light: LightCosts) -> list[str]:
    lines = []
    if light["page_s"]:
        name = "python app.py to the page's first answer"
        lines.append(_line(name, f"{light['page_s']} s", targets.PAGE_SECONDS, light["page_s"]))
    first_edit = light["first_edit_s"]
    lines.append(
        _line("first edit after a photo arrives", f"{first_edit} s", targets.FIRST_EDIT_SECONDS, first_edit)
    )
    if light["peak_memory_mb"]:
        memory = light["peak_memory_mb"]
        name = "peak memory of the page, three edits"
        lines.append(_line(name, f"{memory} MB", targets.PAGE_MEMORY_MB, memory))
        name = "  at a first start, which times this device"
        lines.append(_line(name, f"{light['first_start_memory_mb']} MB"))
    lines.append(_line("torch imported", str(light["torch"]), targets.TORCH, light["torch"]))
    return lines


def _choosing_section(results: ChoosingResults) -> list[str]:
    return [
        _line(
            f"the choice is the best, {results['budgets']} random budgets",
            f"{results['best']:.0%} + {results['within_noise']:.0%} edge",
            targets.BEST_SHARE,
            results["best"] + results["within_noise"],
        ),
        _line("  what counts as the edge, median: p90s within", f"{results['noise']:.0%}"),
        _line(f"  the device meanwhile, attempt {results['attempts']}", f"{results['drift']} times"),
        _line("another budget's answer", f"{results['answer_ms']} ms"),
        _line("checking the profile at the next start", f"{results['verify_s']} s"),
        _line(
            f"choosing, {results['seconds']} s, over timing everything",
            f"{results['share_of_exhaustive']:.0%}",
            targets.CHOOSING_SHARE,
            results["share_of_exhaustive"],
        ),
    ]


def _promise_section(row: PromiseRow) -> list[str]:
    name = f"budget {row['budget_ms']} ms, {submodel.label(row['submodel'])}, {row['edits']} edits: p90"
    lines = [_line(name, f"{row['p90_share']:.0%} of it", targets.BUDGET_SHARE, row["p90_share"])]
    if row["told"]:
        lines.append(_line("  edits at which the page says that nothing fits", f"{row['told']:.0%}"))
    name = "  edits within 1.25 times the budget"
    lines.append(_line(name, f"{row['within_125']:.1%}", targets.TAIL_SHARE, row["within_125"]))
    return lines


def _peer_section(peers: PeerTimes) -> list[str]:
    ms = peers["ms"]
    picked = peers["picked"]
    lines = []
    for rival in targets.PEER_RATIOS:
        if rival in ms:
            name = f"{rival} ({ms[rival]} ms) over {picked} ({ms[picked]} ms)"
            ratio = ms[rival] / ms[picked]
            lines.append(_line(name, f"{ratio:.1f} times", targets.peer_target(rival), ratio))
    if MOBILE_STYLEGAN not in ms:
        lines.append(f"{MOBILE_STYLEGAN}: not measured; name its wheel with --peer-wheel")
        return lines
    name = f"our 1024:1 ({ms[OWN_RANDOM]} ms, random weights) over it"
    ratio = ms[OWN_RANDOM] / ms[MOBILE_STYLEGAN]
    lines.append(_line(name, f"{ratio:.2f} times", targets.OWN_OVER_PEER, ratio))
    return lines


def _size_section(rows: Sequence[SizeCost]) -> list[str]:
    """The largest photo against the smallest: generating must not grow, the paste-back only as its area."""
    lines = []
    if len(rows) > 1:
        ratio = rows[-1]["generate"] / rows[0]["generate"]
        lines.append(_size_line("generate", rows, ratio))
    pasted = [row for row in rows if row["megapixels"] >= PASTE_BACK_FROM]
    if len(pasted) > 1:
        growth = pasted[-1]["megapixels"] / pasted[0]["megapixels"]
        ratio = pasted[-1]["blend"] / pasted[0]["blend"] / growth
        lines.append(_size_line("paste-back, over its growth in area", pasted, ratio))
    return lines


def _size_line(words: str, rows: Sequence[SizeCost], ratio: float) -> str:
    name = f"{words}, {rows[-1]['megapixels']} MP over {rows[0]['megapixels']} MP"
    return _line(name, f"{ratio:.2f} times", targets.GROWTH, ratio)


def _faces_section(rows: Sequence[FacesCost]) -> list[str]:
    if len(rows) < 2:
        return []
    most = rows[-1]
    ratio = most["ratio"] / (most["faces"] / rows[0]["faces"])
    name = f"{most['faces']} faces, each over one alone"
    return [_line(name, f"{ratio:.2f} times", targets.GROWTH, ratio)]


def _visitors_section(rows: Sequence[VisitorsCost]) -> list[str]:
    if len(rows) < 2:
        return []
    most = rows[-1]
    ratio = most["ratio"] / (most["visitors"] / rows[0]["visitors"])
    lost = sum(row["lost"] for row in rows)
    uneven = max(row["uneven"] for row in rows)
    name = f"{most['visitors']} visitors at once, each over its turn's share"
    return [
        _line(name, f"{ratio:.2f} times", targets.GROWTH, ratio),
        _line("  edits lost", str(lost), targets.LOST, lost),
        _line("  the last to finish over the first", f"{uneven} times", targets.UNEVEN, uneven),
    ]


def _growth_details(
    sizes: Sequence[SizeCost], faces: Sequence[FacesCost], visitors: Sequence[VisitorsCost]
) -> list[str]:
    """All that was measured of growth, a line each for photo sizes, faces and visitors."""
    by_size = [f"{v['megapixels']} MP generate {v['generate']} ms, blend {v['blend']} ms" for v in sizes]
    by_faces = [f"{v['faces']}: {v['ms']} ms, {v['ratio']} times" for v in faces]
    by_visitors = [
        f"{v['visitors']}: {v['p50_ms']} ms, {v['ratio']} times, {v['lost']} lost, uneven {v['uneven']}"
        for v in visitors
    ]
    return [
        "photo size: " + "; ".join(by_size),
        "faces: " + "; ".join(by_faces),
        "visitors at once: " + "; ".join(by_visitors),
    ]
