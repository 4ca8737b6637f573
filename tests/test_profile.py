"""Profiles: what is measured here is reused here, and refused anywhere else."""

import html
import io
import json
import os
import random
import re
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from PIL import Image

from agedit import AgeEditError, Engine
from agedit.reports.compare import COLUMNS, to_csv, with_times
from agedit.runtime import quotas, usable_cores
from agedit.selection import profiles as profile
from agedit.selection.budget import SMALLEST_HEADROOM, TIMING_MARGIN
from agedit.selection.cost_model import answer
from agedit.selection.times import Times
from agedit.selection.tuner import Tuner, thread_counts
from agedit.submodel import work
from agedit.weights import Weights
from ui.compare_views import devices
from ui.diagram import diagram
from ui.plain_text import in_markdown
from ui.plots import quality_against_latency, runs

DEVICE = {
    "processor": "Test",
    "machine": "x",
    "system": "y",
    "cores": 2,
    "threads": 2,
    "runtime": "r",
    "weights": "w",
}
TIMES = {(64, 0.25): Times([5.0, 5.1, 5.2]), (128, 1.0): Times([60.0, 61.0, 62.0])}


def test_a_profile_comes_back_as_written(tmp_path):
    path = profile.path_for(DEVICE, tmp_path)
    profile.write(path, DEVICE, TIMES)
    assert profile.read(path, DEVICE) == TIMES
    data = json.loads(path.read_text())
    assert data["schema"] == 1 and data["fit"]["ms_per_gmac"] > 0 and data["times"][0]["p90_ms"] == 5.2


@pytest.mark.parametrize(
    "key,value", [("processor", "Other"), ("threads", 1), ("cores", 8), ("runtime", "r2"), ("weights", "v")]
)
def test_a_foreign_profile_is_refused_by_name(tmp_path, key, value):
    profile.write(tmp_path / "p.json", DEVICE | {key: value}, TIMES)
    with pytest.raises(AgeEditError, match=f"another {key}"):
        profile.read(tmp_path / "p.json", DEVICE)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "device": {}, "times": [{"r": 1}]}']
)
def test_a_damaged_profile_is_refused(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(AgeEditError, match="damaged"):
        profile.read(tmp_path / "p.json", DEVICE)


def test_times_that_cannot_be_are_refused(tmp_path):
    profile.write(tmp_path / "p.json", DEVICE, {(64, 1.0): Times([-1.0])})
    with pytest.raises(AgeEditError, match="damaged"):
        profile.read(tmp_path / "p.json", DEVICE)


def test_tuning_for_real_then_reusing_the_profile(engine, tmp_path):
    first = Tuner(engine, tmp_path).choose(10_000)
    assert first["fits"] and first["submodel"] == dict(zip("rc", engine.weights.order[0], strict=False))
    assert first["tried"] and first["p50_ms"] <= first["p90_ms"] and os.path.exists(first["profile"])
    again = Tuner(engine, tmp_path).choose(10_000)
    assert again["submodel"] == first["submodel"] and again["p90_ms"] == pytest.approx(
        first["p90_ms"], abs=0.02
    )  # rounded twice
    assert {e["verdict"] for e in again["tried"]} == {"chosen"}


def test_a_budget_nothing_meets_is_said(engine, tmp_path):
    result = Tuner(engine, tmp_path).choose(0.01)
    assert not result["fits"] and result["submodel"] == dict(
        zip("rc", engine.weights.candidates[0], strict=False)
    )
    assert "smallest sub-model runs" in result["notes"][0]


def test_a_damaged_or_foreign_profile_on_disk_only_costs_a_note(engine, tmp_path):
    tuner = Tuner(engine, tmp_path)
    tuner.path.write_text("{broken")
    result = Tuner(engine, tmp_path).choose(0.01)
    assert any("damaged" in note for note in result["notes"])


def test_an_unwritable_folder_costs_a_note_and_not_the_answer(engine, tmp_path):
    (tmp_path / "file").write_text("")
    result = Tuner(engine, tmp_path / "file").choose(0.01)
    assert result["submodel"] and any("could not be kept" in note for note in result["notes"])


@pytest.mark.parametrize("bad", [0, -5, float("nan"), "fast"])
def test_a_budget_must_be_positive(engine, tmp_path, bad):
    with pytest.raises(AgeEditError, match="positive"):
        Tuner(engine, tmp_path).choose(bad)


def test_another_devices_profile_can_be_compared_and_never_chosen_by(engine, tmp_path):
    source = tmp_path / "phone.json"
    profile.write(source, DEVICE | {"processor": "A Phone"}, TIMES)
    kept = profile.import_profile(source, tmp_path / "profiles")
    assert kept.name == "a-phone-2-cores.json" and profile.load(kept)["times"] == TIMES
    (tmp_path / "profiles" / "broken.json").write_text("{")
    assert [p["device"]["processor"] for p in profile.survey(tmp_path / "profiles")[0]] == ["A Phone"]
    tuner = Tuner(engine, tmp_path / "profiles")
    assert tuner.answer(100) is None  # nothing known of this device
    with pytest.raises(AgeEditError, match="damaged"):
        profile.import_profile(tmp_path / "profiles" / "broken.json", tmp_path)


def test_this_devices_own_profile_cannot_be_replaced_by_an_import(engine, tmp_path):
    tuner = Tuner(engine, tmp_path)
    profile.write(tuner.path, tuner.device, TIMES)
    forged = tmp_path / "forged" / "p.json"
    profile.write(forged, tuner.device, {(64, 0.25): Times([1.0] * 10)})
    with pytest.raises(AgeEditError, match="this very device"):
        profile.import_profile(forged, tmp_path)
    assert profile.read(tuner.path, tuner.device) == TIMES


@pytest.mark.parametrize("r,c", [(64, float("nan")), (10**400, 1.0), (65, 1.0), (64, 0.3)])
def test_sub_models_that_cannot_be_are_refused(tmp_path, r, c):
    profile.write(tmp_path / "p.json", DEVICE, TIMES)
    data = json.loads((tmp_path / "p.json").read_text())
    data["times"][0] |= {"r": r, "c": c}
    (tmp_path / "p.json").write_text(json.dumps(data))
    with pytest.raises(AgeEditError, match="damaged"):
        profile.load(tmp_path / "p.json")


def content():
    """What a good profile holds, to be spoilt."""
    return {
        "schema": 1,
        "device": dict(DEVICE),
        "power": "mains",
        "fit": {"ms": 3.0, "ms_per_gmac": 9.0},
        "times": [
            {"r": 64, "c": 0.25, "p50_ms": 5.1, "p90_ms": 5.2, "n": 3, "runs_ms": [5.0, 5.1, 5.2]},
            {"r": 128, "c": 1, "p50_ms": 61, "p90_ms": 62, "n": 3, "runs_ms": [60, 61, 62]},
        ],
    }


def spoilt(*keys, value):
    """A good profile with the value at a path of keys replaced or added; as the bytes of a file."""
    data = content()
    place = data
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return json.dumps(data).encode()


MARKUP = (
    '<img src="http://203.0.113.9/p.gif">',
    "![x](http://203.0.113.9/p.gif)",
    "[x](javascript:alert(1))",
    "<script>alert(1)</script>",
    "&lt;b&gt;",
    "`x`",
    "$\\frac{$",
    "$\\int$",
    "=HYPERLINK(1)",
    "+1",
    "-1",
    "@SUM(1)",
    "_hidden",
    "http://203.0.113.9",
    "a\nb",
    "a\n",
    "a\x00b",
    "a\x1b[31m",
    "a\u202eb",
    "a\u200bb",
    "\ufeffa",
    "a\u3164",
    "a\u0301" * 40,
    "\ud800",
    "\U0001f600",
    "",
    " ",
    " a",
    "../../etc/passwd",
    "a" * 81,
    "a" * 100_000,
)
NOT_TEXT = (
    None,
    True,
    1,
    1.5,
    [],
    ["Test"],
    ["$\\frac{$"],
    [['<img src="http://203.0.113.9">']],
    {},
    {"a": "b"},
)
NOT_CORES = (None, True, 0, -1, 4097, 10**360, 2.0, 1.5, "2", "²", [2], {"a": 2}, 1e308)
NOT_MS = (None, True, "5.0", [5.0], {}, 0, -1.0, 1e-300, 3_600_001, 1e308, -1e308, 10**400, 10**5000)
TEXTS = ("processor", "machine", "system", "runtime", "weights")
GOOD = json.dumps(content()).encode()
BAD_FILES = {
    **{f"{k}={v!r:.40}": spoilt("device", k, value=v) for k in TEXTS for v in MARKUP + NOT_TEXT},
    **{f"{k}={v!r:.40}": spoilt("device", k, value=v) for k in ("cores", "threads") for v in NOT_CORES},
    **{f"run={v!r:.40}": spoilt("times", 0, "runs_ms", 1, value=v) for v in NOT_MS if v != 10**5000},
    **{f"p90={v!r:.40}": spoilt("times", 0, "p90_ms", value=v) for v in NOT_MS[1:] if v != 10**5000},
    **{f"fit={v!r:.40}": spoilt("fit", "ms", value=v) for v in (None, True, "1", [1], 1e308, 10**400)},
    **{f"n={v!r:.40}": spoilt("times", 0, "n", value=v) for v in (True, 0, -1, 1.5, "3", 10**360)},
    **{f"power={v!r:.40}": spoilt("power", value=v) for v in (*MARKUP, 1, True, ["mains"], {})},
    **{f"times={v!r:.40}": spoilt("times", value=v) for v in (None, 1, "x", {}, [], [1], [None], [[]], [{}])},
    **{f"device={v!r:.40}": spoilt("device", value=v) for v in (None, 1, "x", [], {}, [["processor", "x"]])},
    **{f"schema={v!r:.40}": spoilt("schema", value=v) for v in (None, True, 0, -1, 1.0, "1", [1], 10**360)},
    **{
        f"no {k}": json.dumps({j: v for j, v in content().items() if j != k}).encode()
        for k in ("schema", "times")
    },
    "unknown key": spoilt("note", value="<b>"),
    "unknown key of the device": spoilt("device", "note", value="<b>"),
    "unknown key of times": spoilt("times", 0, "note", value="<b>"),
    "key with markup": spoilt("<img src=http://203.0.113.9>", value=1),
    "a sub-model twice": spoilt("times", 1, value=content()["times"][0]),
    "no such r": spoilt("times", 0, "r", value=65),
    "r as text": spoilt("times", 0, "r", value="64"),
    "r with a fraction": spoilt("times", 0, "r", value=64.0),
    "c huge": spoilt("times", 0, "c", value=1e308),
    "no runs": spoilt("times", 0, "runs_ms", value=[]),
    "runs without end": spoilt("times", 0, "runs_ms", value=[5.0] * 1001),
    "sub-models without end": spoilt("times", value=content()["times"] * 1000),
    "a key twice": GOOD.replace(b'"cores": 2', b'"cores": 2, "cores": 2'),
    "nan": GOOD.replace(b"5.1,", b"NaN,"),
    "infinity": GOOD.replace(b"5.1,", b"Infinity,"),
    "1e400": GOOD.replace(b"5.1,", b"1e400,"),
    "5000 digits": GOOD.replace(b"5.1,", b"9" * 5000 + b","),
    "deep lists": b"[" * 400_000,
    "deep objects": b'{"a":' * 150_000,
    "deep lists that end": b"[" * 100_000 + b"]" * 100_000,
    "two documents": GOOD + GOOD,
    "cut off": GOOD[:-9],
    "zeros": bytes(5000),
    "noise": bytes(range(256)) * 20,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "Latin-1": GOOD.replace(b"Test", b"T\xe9st"),
    "over a megabyte": GOOD + b" " * 1_000_001,
    "comment": b"// x\n" + GOOD,
    "single quotes": GOOD.replace(b'"', b"'"),
    "a list of profiles": b"[" + GOOD + b"]",
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_profile_with_anything_else_in_it_is_refused_in_one_plain_sentence(tmp_path, name):
    path = tmp_path / "theirs.json"
    path.write_bytes(BAD_FILES[name])
    for take in (profile.load, profile.exported, lambda p: profile.import_profile(p, tmp_path / "kept")):
        with pytest.raises(AgeEditError) as caught:
            take(path)
        assert str(caught.value).startswith("The profile theirs.json is damaged or no profile; ")
        assert len(str(caught.value)) < 150
    assert not (tmp_path / "kept").exists()


def test_a_good_profile_is_kept_as_this_program_writes_it(tmp_path):
    plain, marked = tmp_path / "plain.json", tmp_path / "marked.json"
    plain.write_bytes(GOOD)
    marked.write_bytes(b"\xef\xbb\xbf" + GOOD.replace(b", ", b",\n\t "))  # an editor's mark and blanks
    kept = [profile.import_profile(path, tmp_path / path.stem) for path in (plain, marked)]
    assert kept[0].read_bytes() == kept[1].read_bytes() == profile.exported(plain)
    assert profile.load(kept[0])["power"] == "mains"
    assert profile.load(kept[0])["times"] == profile.load(plain)["times"]


def test_the_longest_name_still_makes_a_file(tmp_path):
    source = tmp_path / "p.json"
    source.write_bytes(spoilt("device", "processor", value="a.b/" * 20))
    kept = profile.import_profile(source, tmp_path / "kept")
    assert kept.parent == tmp_path / "kept" and len(kept.name) < 100


@pytest.mark.parametrize("kind", ["link", "link to nothing", "folder", "pipe", "device", "process"])
def test_what_is_no_plain_file_is_not_read(tmp_path, kind):
    path = tmp_path / "theirs.json"
    good = tmp_path / "good"
    good.write_bytes(GOOD)
    if kind.startswith("link"):
        path.symlink_to(good if kind == "link" else tmp_path / "nothing")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/zero" if kind == "device" else "/proc/self/mem")
    with pytest.raises(
        AgeEditError, match=r"^The profile \S+ cannot be read \([\w /]+\); export it again\.$"
    ):
        profile.load(path)


@pytest.mark.parametrize(
    "name",
    [
        '<img src="x" onerror="alert(1)">.json',
        "![x](http:203.0.113.9).json",
        "$\\frac{$.json",
        "a\nb\x1b[31m.json",
        "\u202egnp.json",
        "x" * 250 + ".json",
        ".json",
        "a." + "b" * 200,
    ],
)
def test_a_sentence_shows_the_files_name_only_where_it_is_plain_and_short(tmp_path, name):
    (tmp_path / name).write_text("{")
    with pytest.raises(AgeEditError) as caught:
        profile.load(tmp_path / name)
    assert re.fullmatch(r"[\w .;,-]{20,150}", str(caught.value), re.ASCII)
    assert str(tmp_path) not in str(caught.value)


def test_one_bad_profile_is_left_out_and_said_and_the_rest_are_there(tmp_path):
    profile.write(tmp_path / "a.json", DEVICE | {"processor": "First"}, TIMES)
    (tmp_path / "b<b>.json").write_bytes(spoilt("device", "processor", value="$\\frac{$"))
    (tmp_path / "c.json").mkdir()
    profile.write(tmp_path / "d.json", DEVICE | {"processor": "Last"}, TIMES)
    readable, left_out = profile.survey(tmp_path)
    assert [p["device"]["processor"] for p in readable] == ["First", "Last"]
    assert [sentence.split()[2] for sentence in left_out] == ["bb.json", "c.json"]


@pytest.mark.parametrize("good", [True, False])
def test_no_folder_makes_a_page_without_end(tmp_path, good):
    for number in range(profile.MOST_PROFILES + 5):
        (tmp_path / f"{number}.json").write_bytes(GOOD if good else b"{")
    readable, left_out = profile.survey(tmp_path)
    assert len(readable) == good * profile.MOST_PROFILES
    assert left_out[-1].startswith(f"Only {profile.MOST_PROFILES}")
    assert len(left_out) <= profile.MOST_PROFILES + 1
    (tmp_path / "0.json").write_bytes(GOOD)
    with pytest.raises(AgeEditError, match="remove one first"):
        profile.import_profile(tmp_path / "0.json", tmp_path)


def test_a_profile_is_kept_whole_or_not_at_all_and_through_no_link(tmp_path, monkeypatch):
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    folder = tmp_path / "profiles"
    folder.mkdir()
    path = profile.path_for(DEVICE, folder)
    path.symlink_to(outside)
    profile.write(path, DEVICE, TIMES)
    assert outside.read_text() == "theirs" and not path.is_symlink()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(AgeEditError, match=r"^The profile could not be kept \(No space left on device\)"):
        profile.write(path, DEVICE, {(64, 0.25): Times([1.0])})
    assert [p.name for p in folder.iterdir()] == [path.name] and profile.load(path)["times"] == TIMES


def test_the_row_of_a_sub_model_and_the_sentence_agree():
    """Where nothing fits no row says that it does, the smallest's extra headroom counted."""
    weights = Weights()
    smallest = weights.candidates[0]
    times = {k: Times([100.0 if k == smallest else 500.0] * 20) for k in weights.candidates}
    blank = [{"r": r, "c": c} for r, c in weights.candidates]
    budget = (
        100.0 * TIMING_MARGIN * (1 + SMALLEST_HEADROOM) / 2
    )  # what the smallest takes, without all the room that it wants
    assert not answer(weights.order, work, times, budget / TIMING_MARGIN).fits
    rows = with_times(blank, times, weights.order, budget)
    assert not any(row["fits"] for row in rows) and sum(row["chosen"] for row in rows) == 1
    enough = 100.0 * TIMING_MARGIN * SMALLEST_HEADROOM * 1.001
    row = next(row for row in with_times(blank, times, weights.order, enough) if row["chosen"])
    assert row["fits"] and (row["r"], row["c"]) == smallest


@pytest.mark.parametrize("seed", range(40))
def test_rows_and_the_sentence_agree_whatever_was_timed(seed):
    weights = Weights()
    chance = random.Random(seed)
    times = {
        k: Times([work(k) * 1e-7 * chance.uniform(0.7, 1.3) + chance.uniform(1, 9) for _ in range(20)])
        for k in weights.order
        if chance.random() < 0.8
    }
    blank = [{"r": r, "c": c} for r, c in weights.candidates]
    for budget in (2, 5, 8, 9, 10, 12, 20, 50, 100, 500):
        found = answer(weights.order, work, times, budget / TIMING_MARGIN)
        if found is not None:
            rows = with_times(blank, times, weights.order, budget)
            assert any(row["fits"] for row in rows) == found.fits
            assert [row["fits"] for row in rows if row["chosen"]] == [found.fits]


def test_no_text_of_the_table_is_a_formula_for_a_spreadsheet():
    row = dict.fromkeys(COLUMNS, "=HYPERLINK(1)") | {"r": " =1", "c": "@x", "macs": -5, "mb": "+1"}
    line = to_csv([row]).splitlines()[1].split(",")
    assert line[:3] == ["' =1", "'@x", "-5"] and all(cell[0] in "'-" for cell in line)


def test_a_plot_draws_any_name_as_it_is():
    weights = Weights()
    blank = [{"r": r, "c": c, "lpips": 0.01 * k} for k, (r, c) in enumerate(weights.candidates)]
    rows = with_times(blank, {k: Times([20.0] * 20) for k in weights.order}, weights.order, 50)
    names = ["here", "$\\frac{$", "_hidden", "a" * 5000, "<b>$x^{$"]
    drawn = quality_against_latency([(name, rows) for name in names], 50)
    with Image.open(io.BytesIO(drawn)) as png:
        assert png.size == (1200, 690)


@pytest.mark.parametrize("low,high", [(1e-3, 3.6e6), (3.6e6, 3.6e6)])
def test_a_plot_can_be_drawn_of_every_time_that_a_profile_may_hold(low, high):
    weights = Weights()
    blank = [{"r": r, "c": c, "lpips": 0.01 * k} for k, (r, c) in enumerate(weights.candidates)]
    times = {weights.order[0]: Times([high]), weights.order[-1]: Times([low])}
    rows = with_times(blank, times, weights.order, 50)
    assert quality_against_latency([("here", rows)], 50) and runs(times, weights.order, 50)


def test_the_compare_tab_names_devices_apart_and_says_what_it_left_out(tmp_path):
    for file, name in (("a", "Same"), ("b", "Same"), ("own", "Own")):
        profile.write(tmp_path / f"{file}.json", DEVICE | {"processor": name}, TIMES)
    (tmp_path / "z.json").write_bytes(spoilt("device", "processor", value=["$\\frac{$"]))
    service = SimpleNamespace(tuner=SimpleNamespace(times=TIMES, path=tmp_path / "own.json"))
    found, left_out = devices(service)
    assert [name for name, _ in found] == [None, "Same, 2 cores", "Same, 2 cores (2)"]
    assert len(left_out) == 1 and "z.json" in left_out[0]


@pytest.mark.parametrize(
    "text", [*MARKUP, "www.example.org", "a@example.org", "**b**", "1. x", "a\n# b", "$$x$$"]
)
def test_text_in_markdown_is_text(text):
    shown = in_markdown(text)
    assert re.fullmatch(r"(?:[A-Za-z0-9 ]|&#[0-9]+;|[^\x00-\x7f])*", shown)
    assert html.unescape(shown) == " ".join(text.split()) or "\x00" in text or "\x1b" in text


def test_words_in_the_diagram_are_text():
    drawn = diagram([("<b>", "&", '"')] * 5, "<i>", '" onload="x')
    ElementTree.fromstring(drawn)
    assert "<b>" not in drawn and "<i>" not in drawn and 'onload="' not in drawn


def test_a_name_is_only_a_name(tmp_path):
    profile.write(tmp_path / "p.json", DEVICE | {"processor": "![x](http://a.b/c.png) $\\bad$ <b>"}, TIMES)
    name = profile.load(tmp_path / "p.json")["device"]["processor"]
    assert not set("![]$<>:\\") & set(name)


def test_the_number_of_threads_is_tuned_kept_and_taken_up_again(tmp_path):
    tuner = Tuner(Engine(), tmp_path)
    result = tuner.choose(10_000)
    assert 1 <= result["threads"] <= usable_cores() and tuner.device["threads"] == result["threads"]
    again = Tuner(Engine(), tmp_path)
    assert again.engine.threads == result["threads"]
    assert again.answer(10_000)["submodel"] == result["submodel"]
    assert Tuner(Engine(threads=7), tmp_path).times == {}  # a number that the caller fixed is not overruled
    assert thread_counts(8) == [8, 4, 2, 1] and thread_counts(1) == [1] and thread_counts(3) == [3, 2, 1]


def test_timing_holds_nothing_that_edits_do_without(tmp_path):
    engine = Engine()
    tuner = Tuner(engine, tmp_path)
    best, other = engine.weights.order[0], (64, 0.5)
    runs = [engine.submodel(*rc) for rc in (best, other)]
    tuner.time_once(best)
    tuner.rest(100)
    assert engine.submodel(*best) is runs[0] and engine.submodel(*other) is not runs[1]
    assert tuner.time_once(best) > 0  # and times again when asked


def test_what_passes_is_closed_again_and_what_was_open_stays(tmp_path):
    engine = Engine()
    small = (64, 0.25)
    other = (64, 0.5)

    def opened():
        return {(r, c) for r, c, _ in engine._submodels}

    engine.submodel(*small)
    with engine.passing([small, other]):
        engine.submodel(*other)
        assert opened() == {small, other}
    assert opened() == {small}


def test_answers_allow_for_drift(engine, tmp_path):
    tuner = Tuner(engine, tmp_path)
    tuner.times = {rc: Times([10.0 + 5 * k] * 20) for k, rc in enumerate(engine.weights.candidates)}
    best = engine.weights.order[0]
    slowest = 10.0 + 5 * engine.weights.candidates.index(best)
    assert tuner.answer(slowest * 1.1)["submodel"] == dict(zip("rc", best, strict=False))
    found = tuner.answer(slowest * 1.1, slowdown=1.6)
    assert found["submodel"] != dict(zip("rc", best, strict=False)) and found["p90_ms"] <= slowest * 1.1


@pytest.mark.parametrize(
    "own,files,wanted",
    [
        ("0::/", {"cpu.max": "300000 100000"}, [3]),
        ("0::/", {"cpu.max": "max 100000"}, []),
        (
            "0::/a/b",
            {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"},
            [1],
        ),  # the slice above limits it
        ("0::/not/here", {"cpu.max": "50000 100000"}, [1]),  # a container that sees only its root
        (
            "4:cpu,cpuacct:/x\n2:memory:/x",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "200000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            [2],
        ),
        ("4:cpu,cpuacct:/x", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        ("", {}, []),
    ],
)
def test_quotas_of_nested_and_older_cgroups(tmp_path, own, files, wanted):
    (tmp_path / "own").write_text(own)
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text + "\n")
    assert list(quotas(tmp_path / "root", tmp_path / "own")) == wanted


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_affinity_limits_the_threads():
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert usable_cores() == 1 and thread_counts(usable_cores()) == [1]
    finally:
        os.sched_setaffinity(0, mine)
