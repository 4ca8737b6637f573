"""What `bench` measured, as text with the bounds that are wanted, and as a plot."""

from agedit.bench.run import NARROW, SHARES
from agedit.compat import import_matplotlib


def _line(name, value, wanted="", good=None):
    return f"{name:<52} {value:>16}   {wanted:<12} {'' if good is None else 'met' if good else 'not met'}".rstrip()


def table(data):
    """Every figure with its bound, for a terminal."""
    lines = [f"{data['runtime']}, {data['threads']} threads", ""]
    for name, part in data["networks"]["precisions"].items():
        lines.append(f"{name}: plain convolutions run at {part['yardstick_gflops']} GFLOP/s; random weights")
        for s in part["submodels"]:
            bound = SHARES.get((s["r"], s["c"]))
            lines.append(
                _line(
                    f"  {s['r']}:{s['c']:g}, {s['gmacs']} G MACs, {s['p50_ms']} ms, of that rate",
                    f"{s['share']:.0%}",
                    f">= {bound:.0%}" if bound else "",
                    s["share"] >= bound if bound else None,
                )
            )
        for r, ratio in part["narrow"].items():
            bound = NARROW.get(int(r))
            lines.append(
                _line(
                    f"  {r} px, c = 1 over c = 1/4",
                    f"{ratio} times",
                    f">= {bound:g}" if bound else "",
                    ratio >= bound if bound else None,
                )
            )
    for key, words in (
        ("extract_ms", "extracting a sub-model from the weights"),
        ("open_ms", "compiling it, once"),
    ):
        name, ms = max(data["networks"][key].items(), key=lambda kv: kv[1])
        bound = ("< 300 ms", ms < 300) if key == "extract_ms" else ("", None)
        lines.append(_line(f"{words} ({name}, the slowest)", f"{ms:.0f} ms", *bound))
    m = data["moves"]
    lines.append(
        _line(
            f"a slider's move, {m['ms']} ms: generate + blend + encode",
            f"{m['share']:.0%}",
            ">= 95%",
            m["share"] >= 0.95,
        )
    )
    lines.append(_line("  reading the age in it, for the slider", f"{m['read_ms']} ms"))
    lines.append(
        _line(
            "  right after another warm sub-model's, over its own",
            f"{m['switch_ratio']} times",
            "<= 1.1",
            m["switch_ratio"] <= 1.1,
        )
    )
    if data["lowered"]:
        v = data["lowered"]
        lines.append(
            _line(
                f"{v['precision']} against fp32, the shown picture",
                f"{v['levels']} levels",
                "< 1 level",
                v["levels"] < 1,
            )
        )
        lines.append(_line("  judged age apart", f"{v['judged_years_apart']} years"))
    light = data["light"]
    if light["page_s"]:
        lines.append(
            _line(
                "python app.py to the page's first answer",
                f"{light['page_s']} s",
                "< 3 s",
                light["page_s"] < 3,
            )
        )
    lines.append(
        _line(
            "first edit after a photo arrives",
            f"{light['first_edit_s']} s",
            "< 1 s",
            light["first_edit_s"] < 1,
        )
    )
    if light["peak_memory_mb"]:
        lines.append(
            _line(
                "peak memory of the page, three edits",
                f"{light['peak_memory_mb']} MB",
                "< 700 MB",
                light["peak_memory_mb"] < 700,
            )
        )
        lines.append(
            _line("  at a first start, which times this device", f"{light['first_start_memory_mb']} MB")
        )
    lines.append(_line("torch imported", str(light["torch"]), "False", not light["torch"]))
    c = data["choosing"]
    right = c["best"] + c["within_noise"]
    lines.append(
        _line(
            f"the choice is the best, {c['budgets']} random budgets",
            f"{c['best']:.0%} + {c['within_noise']:.0%} edge",
            ">= 95%",
            right >= 0.95,
        )
    )
    lines.append(_line("  what counts as the edge, median: p90s within", f"{c['noise']:.0%}"))
    lines.append(_line(f"  the device meanwhile, attempt {c['attempts']}", f"{c['drift']} times"))
    lines.append(_line("another budget's answer", f"{c['answer_ms']} ms"))
    lines.append(_line("checking the profile at the next start", f"{c['verify_s']} s"))
    lines.append(
        _line(
            f"choosing, {c['seconds']} s, over timing everything",
            f"{c['share_of_exhaustive']:.0%}",
            "<= 20%",
            c["share_of_exhaustive"] <= 0.2,
        )
    )
    for row in data["promise"]:
        r, c = row["submodel"]
        lines.append(
            _line(
                f"budget {row['budget_ms']} ms, {r}:{c:g}, {row['edits']} edits: p90",
                f"{row['p90_share']:.0%} of it",
                "<= 100%",
                row["p90_share"] <= 1,
            )
        )
        if row["told"]:
            lines.append(_line("  edits at which the page says that nothing fits", f"{row['told']:.0%}"))
        lines.append(
            _line(
                "  edits within 1.25 times the budget",
                f"{row['within_125']:.1%}",
                ">= 99%",
                row["within_125"] >= 0.99,
            )
        )
    if "peers" in data:
        ms, picked = data["peers"]["ms"], data["peers"]["picked"]
        for rival, bound in (("mobilestylegan", 3), ("unet", 30)):
            if rival in ms:
                lines.append(
                    _line(
                        f"{rival} ({ms[rival]} ms) over {picked} ({ms[picked]} ms)",
                        f"{ms[rival] / ms[picked]:.1f} times",
                        f">= {bound}",
                        ms[rival] / ms[picked] >= bound,
                    )
                )
        if "mobilestylegan" not in ms:
            lines.append("mobilestylegan: not measured; name its wheel with --peer-wheel")
        else:
            whole = ms["ours 1024:1, random weights"]
            lines.append(
                _line(
                    f"our 1024:1 ({whole} ms, random weights) over it",
                    f"{whole / ms['mobilestylegan']:.2f} times",
                    "<= 1",
                    whole <= ms["mobilestylegan"],
                )
            )
    lines += _growth(data["by_size"], data["by_faces"], data["by_visitors"])
    return "\n".join(lines)


def _growth(sizes, faces, visitors):
    """Cost against the photo's size, the faces in it and the visitors at once: the largest of each against the smallest, then all that was measured."""
    lines = []
    for key, words in (("generate", "generate"), ("blend", "paste-back, over its growth in area")):
        known = [
            s for s in sizes if key == "generate" or s["megapixels"] >= 3
        ]  # a face that is smaller than the change costs no less
        if len(known) > 1:
            first, last = known[0], known[-1]
            ratio = (
                last[key]
                / first[key]
                / (1 if key == "generate" else last["megapixels"] / first["megapixels"])
            )
            lines.append(
                _line(
                    f"{words}, {last['megapixels']} MP over {first['megapixels']} MP",
                    f"{ratio:.2f} times",
                    "<= 1.2",
                    ratio <= 1.2,
                )
            )
    if len(faces) > 1:
        ratio = faces[-1]["ratio"] / (faces[-1]["faces"] / faces[0]["faces"])
        lines.append(
            _line(
                f"{faces[-1]['faces']} faces, each over one alone",
                f"{ratio:.2f} times",
                "<= 1.2",
                ratio <= 1.2,
            )
        )
    if len(visitors) > 1:
        n, lost, uneven = (
            visitors[-1]["visitors"],
            sum(v["lost"] for v in visitors),
            max(v["uneven"] for v in visitors),
        )
        ratio = visitors[-1]["ratio"] / (n / visitors[0]["visitors"])
        lines.append(
            _line(
                f"{n} visitors at once, each over its turn's share",
                f"{ratio:.2f} times",
                "<= 1.2",
                ratio <= 1.2,
            )
        )
        lines.append(_line("  edits lost", str(lost), "0", lost == 0))
        lines.append(_line("  the last to finish over the first", f"{uneven} times", "<= 1.2", uneven <= 1.2))
    return lines + [
        "",
        "photo size: "
        + "; ".join(
            f"{v['megapixels']} MP generate {v['generate']} ms, blend {v['blend']} ms" for v in sizes
        ),
        "faces: " + "; ".join(f"{v['faces']}: {v['ms']} ms, {v['ratio']} times" for v in faces),
        "visitors at once: "
        + "; ".join(
            f"{v['visitors']}: {v['p50_ms']} ms, {v['ratio']} times, {v['lost']} lost, uneven {v['uneven']}"
            for v in visitors
        ),
    ]


def plot(data, path):
    """PNG: how near each network comes to the rate of plain convolutions, and whether budgets are kept."""
    import_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure((10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    precisions = list(data["networks"]["precisions"].items())
    for k, (name, part) in enumerate(precisions):
        x = [i + (k - (len(precisions) - 1) / 2) * 0.38 for i in range(len(part["submodels"]))]
        left.bar(
            x,
            [100 * s["share"] for s in part["submodels"]],
            0.36,
            label=f"{name}, {part['yardstick_gflops']:.0f} GFLOP/s = 100%",
            color=("#4f46e5", "#0891b2")[k],
        )
    shapes = [(s["r"], s["c"]) for s in precisions[0][1]["submodels"]]
    wanted = [(i, 100 * SHARES[rc]) for i, rc in enumerate(shapes) if rc in SHARES]
    left.scatter(*zip(*wanted), marker="_", s=900, color="#dc2626", label="wanted", zorder=3)
    left.set_xticks(range(len(shapes)), [f"{r}:{c:g}" for r, c in shapes], fontsize=8)
    left.set_ylabel("% of the rate of plain convolutions")
    left.set_title("Near the limit", loc="left", fontsize=11)
    rows = data["promise"]
    budgets = [r["budget_ms"] for r in rows]
    right.plot(budgets, budgets, color="#dc2626", linestyle="--", label="the budget")
    for key, marker in (("p50_ms", "o"), ("p90_ms", "^")):
        right.scatter(
            budgets,
            [r[key] for r in rows],
            marker=marker,
            color="#4f46e5",
            label=f"{key[:3]} of {rows[0]['edits']} edits",
            zorder=3,
        )
    for r in rows:
        right.annotate(
            "{}:{:g}".format(*r["submodel"]),
            (r["budget_ms"], r["p50_ms"]),
            (5, -12),
            textcoords="offset points",
            fontsize=8,
        )
    (
        right.set_xscale("log"),
        right.set_yscale("log"),
        right.minorticks_off(),
        right.margins(0.06, 0.1),
    )  # budgets grow by a factor
    for axis in (right.xaxis, right.yaxis):
        axis.set_ticks(budgets, [f"{b:.0f}" for b in budgets])
    right.set_xlabel("waiting budget, ms")
    right.set_ylabel("ms of an edit")
    right.set_title("The promise", loc="left", fontsize=11)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, markerscale=0.5 if axes is left else 1)
    figure.savefig(path, dpi=130)
