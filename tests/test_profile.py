"""Profiles: what is measured here is reused here, and refused anywhere else."""

import json
import os

import pytest

from agedit import AgeEditError, Engine
from agedit.runtime import quotas, usable_cores
from agedit.selection import profiles as profile
from agedit.selection.times import Times
from agedit.selection.tuner import Tuner, thread_counts

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
    assert first["fits"] and first["submodel"] == dict(zip("rc", engine.weights.order[0]))
    assert first["tried"] and first["p50_ms"] <= first["p90_ms"] and os.path.exists(first["profile"])
    again = Tuner(engine, tmp_path).choose(10_000)
    assert again["submodel"] == first["submodel"] and again["p90_ms"] == pytest.approx(
        first["p90_ms"], abs=0.02
    )  # rounded twice
    assert {e["verdict"] for e in again["tried"]} == {"chosen"}


def test_a_budget_nothing_meets_is_said(engine, tmp_path):
    result = Tuner(engine, tmp_path).choose(0.01)
    assert not result["fits"] and result["submodel"] == dict(zip("rc", engine.weights.candidates[0]))
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
    assert [p["device"]["processor"] for p in profile.load_folder(tmp_path / "profiles")] == ["A Phone"]
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
    engine, opened = Engine(), lambda: {k[:2] for k in engine._sessions if isinstance(k, tuple)}
    small, other = (64, 0.25), (64, 0.5)
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
    assert tuner.answer(slowest * 1.1)["submodel"] == dict(zip("rc", best))
    found = tuner.answer(slowest * 1.1, slow=1.6)
    assert found["submodel"] != dict(zip("rc", best)) and found["p90_ms"] <= slowest * 1.1


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
