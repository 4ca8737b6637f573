"""The page's parts without a browser: words, the service, a visit, marks, the journey, the comparison."""

import io
import re
import threading
import time
import weakref
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from conftest import PORTRAITS
from known_device import ROOT, small_engine, write_profile
from PIL import Image

from agedit import load_photo
from agedit.mark import stamp
from agedit.photo import encode_photo
from agedit.reports.compare import compare, to_csv, with_times
from agedit.reports.journey import journey, strip, write_gif, write_mp4
from agedit.selection.fair_lock import FairLock
from agedit.selection.times import Times
from ui.plots import quality_against_latency, runs
from ui.words import WORDS


def test_both_languages_have_every_word_with_the_same_blanks():
    import string

    def blanks(text):
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for key, text in WORDS["en"].items():
        assert blanks(text) == blanks(WORDS["zh"][key]), key


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_synthetic_pictures_say_so_in_their_metadata(portrait, format):
    plain, marked = (
        Image.open(io.BytesIO(encode_photo(portrait, format, synthetic=s))) for s in (False, True)
    )
    assert np.array_equal(np.asarray(plain), np.asarray(marked)) and not marked.getexif()
    assert "compositeWithTrainedAlgorithmicMedia" in str(marked.info) and "DigitalSource" not in str(
        plain.info
    )


def test_the_visible_mark_is_small_and_in_the_corner(portrait):
    changed = (stamp(portrait) != portrait).any(2)
    h, w = changed.shape
    assert 0 < changed.mean() < 0.02 and not changed[: h * 3 // 4].any() and not changed[:, : w // 2].any()


def test_the_journey_passes_through_the_photo_itself(editor, tmp_path):
    frames = [(years, crop) for _, _, years, crop in journey(editor, stops=3, between=2, size=128)]
    assert len(frames) == 5 and [y for y, _ in frames] == sorted(y for y, _ in frames)
    assert 0.0 in [y for y, _ in frames]
    assert strip(frames, 3).shape == (128 + 34, 3 * 128 + 2 * 6, 3)
    write_gif(tmp_path / "a.gif", [c for _, c in frames])
    write_mp4(tmp_path / "a.mp4", [c for _, c in frames])
    assert Image.open(tmp_path / "a.gif").n_frames >= 5 and (tmp_path / "a.mp4").stat().st_size > 500


def test_rows_of_the_comparison(editor):
    rows = list(compare(editor, 20, size=128))
    assert [(r["r"], r["c"]) for r in rows] == list(reversed(editor.engine.weights.candidates))
    assert rows[0]["difference"] == 0 and all(r["difference"] > 0 for r in rows[1:])
    times = {(64, 0.25): Times([10.0] * 20), tuple(editor.engine.weights.candidates[-1]): Times([80.0] * 20)}
    told = with_times(rows, times, editor.engine.weights.order, 40)
    assert sum(r["chosen"] for r in told) == 1 and next(r for r in told if r["chosen"])["fits"]
    assert [r["measured"] for r in told].count(True) == 2 and not told[0]["fits"]
    assert to_csv(told).count("\n") == 1 + len(rows)
    nothing = with_times(rows, {}, editor.engine.weights.order, 40)
    assert all(r["p50_ms"] is None and not r["fits"] for r in nothing)
    for png in (
        quality_against_latency([("here", told), ("there", told)], 40),
        runs(times, editor.engine.weights.order, 40),
    ):
        assert Image.open(io.BytesIO(png)).size[0] > 800


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    import os

    from ui.service import Service

    folder = tmp_path_factory.mktemp("profiles")
    os.environ["AGEDIT_PROFILES"] = str(folder)
    write_profile(folder)
    service = Service(small_engine())
    yield service
    del os.environ["AGEDIT_PROFILES"]


def test_a_budget_is_answered_at_once_when_the_device_is_known(service):
    runs_before = {k: len(t.runs) for k, t in service.tuner.times.items()}
    assert runs_before
    for budget in (20, 60, 333, 1000):
        assert service.choose(budget)["submodel"]
    assert {k: len(t.runs) for k, t in service.tuner.times.items()} == runs_before


def test_each_face_keeps_its_own_age(service):
    from ui.visit import Visit

    visit = Visit(service, PORTRAITS[0])
    visit.editor.faces = visit.editor.faces * 2  # as if the same face were there twice
    visit.ask(20, -1)
    visit.ask(-10, 1)
    assert visit.years == {0: 20, 1: -10} and visit.faces(None) == [0, 1]


def test_a_visit_shows_the_photo_and_the_face(service):
    from ui.visit import Visit

    visit = Visit(service, PORTRAITS[0])
    visit.ask(20, None)
    shown = visit.edit(5000)
    assert load_photo(shown["before"]).shape == load_photo(shown["after"]).shape
    face = visit.edit(5000, "face", who=0)
    assert load_photo(face["before"]).shape == load_photo(face["after"]).shape
    assert load_photo(visit.edit(5000, "face", True, 0)["after"]).shape == load_photo(face["after"]).shape
    png, jpeg, unmarked = (visit.download(5000, *how) for how in ((), (True, "JPEG"), (False,)))
    saved = load_photo(png.path)
    assert saved.shape == load_photo(PORTRAITS[0]).shape and (saved != load_photo(unmarked.path)).any()
    with Image.open(jpeg.path) as file, Image.open(PORTRAITS[0]) as photo:
        assert file.quantization == photo.quantization and "DigitalSourceType" in str(file.info)


def test_a_deleted_visit_holds_nothing_and_comes_back_with_nothing(service):
    from ui.files import Forgotten
    from ui.visit import Visit

    visit = Visit(service, PORTRAITS[0])
    visit.ask(20, None)
    visit.edit(5000)
    editor = weakref.ref(visit.editor)
    visit.delete()
    assert editor() is None and not visit.files.folder.exists() and not visit.years and not visit.pixels
    for again in (lambda: visit.edit(5000), lambda: visit.download(5000), lambda: visit.editor):
        with pytest.raises(Forgotten):
            again()
    assert not visit.files.folder.exists()


def test_a_photo_that_was_put_aside_gives_the_same_edit(service):
    from ui.visit import Visit

    visit = Visit(service, PORTRAITS[0])
    visit.ask(20, None)
    first = load_photo(visit.edit(5000)["after"])
    visit.put_aside()
    assert not visit.pixels
    assert np.array_equal(load_photo(visit.edit(5000)["after"]), first)


@pytest.mark.parametrize("holds", [True, False])
def test_drift_is_the_photos_own_cost_or_a_reason_to_time_again(service, monkeypatch, holds):
    from agedit.selection.drift import DriftWatch

    watch, timed = DriftWatch(), []
    monkeypatch.setattr(service.tuner, "verify", lambda budget: holds)
    monkeypatch.setattr(service.tuner, "choose", lambda budget, fresh=False, tell=None: timed.append(fresh))
    monkeypatch.setattr(service.tuner, "complete", lambda: None)
    for _ in range(20):
        watch.observe(50, 80)
    before = service.generation
    service.check(watch, 5000)
    assert (timed, service.generation - before) == (([], 0) if holds else ([True], 1))
    assert watch.drift == (1.0 if holds else 1.6)  # a visit clears its watch when it meets a new generation


def test_nobody_waits_for_a_device_that_was_never_timed(service, monkeypatch):
    """The first choice is the smallest, the next goes by what the first edit took; no run is timed."""
    monkeypatch.setattr(service.tuner, "times", {})
    monkeypatch.setattr(service.tuner, "_live", {})
    monkeypatch.setattr(service.tuner, "time_once", lambda candidate: pytest.fail("it was timed"))
    weights = service.engine.weights
    smallest, best = weights.candidates[0], weights.order[0]

    def chosen(budget):
        return tuple(service.choose(budget)["submodel"].values())

    assert chosen(100) == smallest and service.choose(100)["fits"] and chosen(5000) == best
    service.tuner.observe(smallest, 30.0, 10.0)
    assert chosen(5000) == best and chosen(30) == smallest
    service.tuner.observe(smallest, 3000.0, 2900.0)
    assert chosen(5000) != best


def test_a_program_gets_a_device_that_was_timed(service, monkeypatch):
    monkeypatch.setattr(service.tuner, "times", {})
    monkeypatch.setattr(service.tuner, "choose", lambda budget: f"timed for {budget}")
    service.quiet.touch()
    assert service.choose_for_program(100) == "timed for 100"
    monkeypatch.setattr("ui.service.WAIT", 0.05)
    with service._tuning:
        assert service.choose_for_program(100)["submodel"]


def test_the_device_is_timed_while_a_page_is_open_and_nobody_drags():
    from ui.quiet import AT_REST, Quiet

    clock = SimpleNamespace(now=100.0)
    quiet = Quiet(lambda: clock.now)
    assert quiet.is_now
    quiet.touch()
    assert not quiet.is_now
    clock.now += AT_REST
    assert quiet.is_now
    quiet.anybody = lambda: False
    assert not quiet.is_now
    waiting = threading.Thread(target=quiet.wait, daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    with quiet.ignored():  # somebody asked for the times
        assert quiet.is_now
        waiting.join(20)
    assert not waiting.is_alive() and not quiet.is_now


def test_timing_waits_until_it_is_quiet_and_never_with_the_lock(service, monkeypatch):
    asked = []
    monkeypatch.setattr(service.tuner, "pause", lambda: asked.append(service.lock.is_mine))
    candidate = service.engine.weights.candidates[0]
    service.tuner.time_once(candidate)
    service.tuner._time_with_threads(candidate, service.engine.threads)
    assert asked == [False, False]


def test_the_slider_is_made_of_this_face_from_the_middle_out(service):
    from urllib.parse import unquote

    from ui.key_pictures import KeyPictures, stops
    from ui.visit import Asked, Visit

    assert stops(-30, 40) == [-30, -20, -10, 0, 10, 20, 30, 40]
    visit = Visit(service, PORTRAITS[0])
    visit.ask(20, None)
    visit.done = Asked(20, 5000, None, "photo", False)
    asked = (20, 5000, None, "photo", False)
    letters = list(KeyPictures(lambda: service).draw(visit, *asked, None))
    told = [orjson.loads(unquote(text.split('"')[1])) for text in letters]
    assert [len(each["keys"]) for each in told] == [1, 2, 3, 4, 5, 6, 7, 8]
    keys = told[-1]["keys"]
    assert [key["years"] for key in keys[:4]] == [0, 20, 10, 30] and "ready" in told[-1]["ready"]
    by_age = {key["years"]: key for key in keys}
    assert by_age[-30]["age"] < by_age[0]["age"] < by_age[40]["age"]
    exact = load_photo(visit.edit(5000)["after"])
    assert np.array_equal(load_photo(by_age[20]["path"]), exact)
    again = list(KeyPictures(lambda: service).draw(visit, *asked, None))
    assert again == [{"__type__": "update"}]  # they are there


def test_key_pictures_end_when_others_are_wanted(service):
    from ui.key_pictures import KeyPictures
    from ui.visit import Visit

    visit = Visit(service, PORTRAITS[0])
    visit.ask(20, None)
    letters = KeyPictures(lambda: service).draw(visit, 20, 5000, None, "photo", False, None)
    next(letters)
    visit.drawing = "others"
    assert list(letters) == []


def test_words_for_scripts_are_words():
    from urllib.parse import unquote

    from ui.board import words_for_scripts

    told = orjson.loads(unquote(words_for_scripts(WORDS).split('"')[1]))
    script = (ROOT / "ui/stage.js").read_text() + (ROOT / "ui/strip.js").read_text()
    used = set(re.findall(r"words\.(\w+)", script)) - {"s"} | {"result", "split", "pair"}
    assert used == told["en"].keys() == told["zh"].keys()


def test_several_faces_share_the_budget(service, monkeypatch):
    from ui.visit import Visit

    visit, asked = Visit(service, PORTRAITS[0]), []
    monkeypatch.setattr(service, "choose", lambda budget, slowdown=1.0: asked.append(budget))
    visit.years = {0: 20, 1: -5, 2: 0}
    visit.choose(100)
    visit.choose(100, strict=True)
    assert asked == [50, 100]


@pytest.mark.parametrize(
    "age, years, word",
    [
        (30, 20, None),
        (30, -30, "no_younger"),
        (70, 30, "no_older"),
        (6, 10, "child"),
        (6, 30, "child_end"),
        (6, 0, None),
        (6, -3, "no_younger"),
    ],
)
def test_the_page_says_what_the_networks_cannot_do(engine, age, years, word):
    from ui.edit_picture import beyond_model

    assert beyond_model(age, years, engine.weights.reach(age)) == word
    assert word is None or word in WORDS["en"]


def test_a_photo_that_comes_while_compare_is_open_is_drawn_there(monkeypatch):
    from ui import compare_tab

    tab = compare_tab.CompareTab.__new__(compare_tab.CompareTab)
    monkeypatch.setattr(compare_tab, "usable", lambda visit: True)
    monkeypatch.setattr(tab, "go", lambda *values: ["drawn"] * compare_tab.OUTPUTS)

    def follow(is_open, rows):
        return tab.follow(SimpleNamespace(rows=rows), 0, 150, "", is_open, None)

    assert follow(is_open=True, rows=[]) == ["drawn"] * compare_tab.OUTPUTS + [None, None]
    told, grid, plot, table, *rest = follow(is_open=False, rows=[])[1:]
    assert told == "" and grid is plot is table is None and len(rest) == 4
    assert set(map(str, follow(is_open=True, rows=["a row"]))) == {str(compare_tab.gr.skip())}


def test_sliders_bring_typed_values_into_their_range():
    from ui.components import Slider

    slider = Slider(20, 1000, 150, step=10)
    assert [slider.preprocess(v) for v in (1, 5000, 330, None)] == [20, 1000, 330, 150]


def test_a_lying_profile_is_found_out_at_the_start(service, monkeypatch):
    """Its times are a tenth of the truth: a few runs tell, and the device is timed again."""
    truth = {rc: Times([100.0 + k] * 12) for k, rc in enumerate(service.engine.weights.candidates)}
    monkeypatch.setattr(
        service.tuner, "times", {rc: Times([v / 10 for v in t.runs]) for rc, t in truth.items()}
    )
    monkeypatch.setattr(service.tuner, "time_once", lambda rc: truth[rc].p50)
    assert service.tuner.verify(5000) is False
    timed = []
    monkeypatch.setattr(service.tuner, "choose", lambda budget, fresh=False, tell=None: timed.append(fresh))
    monkeypatch.setattr(service.tuner, "complete", lambda: None)
    service.start(5000)
    assert timed == [True]
    monkeypatch.setattr(service.tuner, "times", truth)
    assert service.tuner.verify(5000) is True


def test_turns_are_first_come_first_served_and_reentrant():

    turns, order = FairLock(), []

    def take(k):
        with turns, turns:
            order.append(k)

    with turns:
        threads = []
        for k in range(5):
            threads.append(threading.Thread(target=take, args=(k,)))
            threads[-1].start()
            while turns.waiting <= k:
                time.sleep(0.001)
    for thread in threads:
        thread.join(5)
    assert order == [0, 1, 2, 3, 4] and turns.waiting == 0


def test_a_photo_that_costs_more_gets_a_smaller_sub_model():
    from agedit.selection.drift import DriftWatch

    watch = DriftWatch()
    assert watch.pace == 1.0
    for took in (12, 12.2, 11.9, 12, 12.1):
        watch.observe(10, took)
    assert watch.pace == pytest.approx(1.2)


def test_the_page_is_imported_without_gradios_stubs():
    import inspect

    import gradio as gr

    from ui.compat import no_stubs

    with no_stubs(), pytest.raises(OSError):
        inspect.getfile(gr.Image)
    assert inspect.getfile(gr.Image).endswith("image.py")
