"""The command line's contract: one JSON object on stdout, status 2 and one sentence for bad input, no torch
in the app.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import PORTRAITS, ROOT
from known_device import small_engine
from PIL import Image

from agedit import load_photo
from agedit.__main__ import main


def agedit(*args, **env):
    return subprocess.run(
        [sys.executable, "-m", "agedit", *map(str, args)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | env,
    )


def one_object(result):
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_edit_writes_the_picture_and_one_json_object(tmp_path):
    out = tmp_path / "old.png"
    data = one_object(agedit("edit", PORTRAITS[0], "-o", out, "--years", 25, "--json"))
    assert {"faces", "submodel", "years", "age_before", "age_after", "identity", "ms"} <= data.keys()
    assert data["faces"] == 1 and data["years"] == 25 and set(data["submodel"]) == {"r", "c"}
    assert data["age_after"] > data["age_before"] and 0 < data["identity"] <= 1
    assert all(v >= 0 for v in data["ms"].values()) and {"generate", "blend"} <= data["ms"].keys()
    assert load_photo(out).shape == load_photo(PORTRAITS[0]).shape


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no disk that is always full")
def test_an_answer_for_which_there_is_no_room_is_one_sentence(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "agedit", "profiles", "--json"],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"AGEDIT_PROFILES": str(tmp_path)},
        )
    assert done.returncode == 2
    assert done.stderr == "agedit: A file could not be written (No space left on device); make room for it.\n"


def test_edit_with_budget_submodel_face_and_strict(tmp_path):
    env = {"AGEDIT_PROFILES": str(tmp_path / "profiles")}
    out = tmp_path / "o.png"
    tuned = one_object(
        agedit(
            "edit", PORTRAITS[0], "-o", out, "--years", 10, "--budget", 5000, "--face", "all", "--json", **env
        )
    )
    assert tuned["face"] == "all" and list((tmp_path / "profiles").glob("*.json"))
    chosen = one_object(
        agedit("edit", PORTRAITS[0], "-o", out, "--years", -30, "--submodel", "64:0.25", "--strict", "--json")
    )
    assert chosen["submodel"] == {"r": 64, "c": 0.25} and load_photo(out).shape == (64, 64, 3)
    assert "years nothing changes" in chosen["notes"][-1] and not any(
        "nothing changes" in note for note in tuned["notes"]
    )


def test_the_version_and_words_that_complete_a_command():
    assert one_line("--version").startswith("agedit, version ")
    completes = {"_AGEDIT_COMPLETE": "bash_complete", "COMP_WORDS": "agedit pro", "COMP_CWORD": "1"}
    done = CliRunner().invoke(main, [], prog_name="agedit", env=completes)
    assert done.output.split() == ["plain,profiles"]


def one_line(*arguments):
    done = CliRunner().invoke(main, list(arguments), prog_name="agedit")
    assert done.exit_code == 0, done.output
    return done.output.strip()


def test_zero_years_through_the_command_line(tmp_path):
    out = tmp_path / "same.png"
    one_object(agedit("edit", PORTRAITS[0], "-o", out, "--years", 0, "--json"))
    assert np.array_equal(load_photo(out), load_photo(PORTRAITS[0]))


def test_tune(tmp_path, monkeypatch):
    monkeypatch.setenv("AGEDIT_PROFILES", str(tmp_path))
    monkeypatch.setattr("agedit.__main__.engine", lambda: small_engine(64))

    def tune(*options):
        return json.loads(one_line("tune", "--budget", "5000", "--json", *options))

    first = tune()
    assert {"submodel", "p50_ms", "p90_ms", "tried", "profile", "seconds"} <= first.keys()
    assert all({"submodel", "verdict", "reason"} <= e.keys() for e in first["tried"])
    again = tune()
    assert again["submodel"] == first["submodel"] and again["seconds"] < 0.5 * first["seconds"]
    fresh = tune("--fresh")
    assert len(fresh["tried"]) >= len(again["tried"])


def test_info():
    info = one_object(agedit("info", "--json"))
    assert info["layers"]["generator"] == {"convolutions": 24, "upsamplings": 8, "fully_connected": 8}
    assert (
        all(s["macs"] > 0 and s["parameters"] > 0 for s in info["submodels"])
        and info["files"]
        and info["provenance"]
    )


@pytest.fixture(scope="module")
def bad_photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    Image.new("RGB", (300, 300), "grey").save(folder / "noface.png")
    (folder / "text.jpg").write_text("not a picture")
    (folder / "cut.jpg").write_bytes(PORTRAITS[0].read_bytes()[:9000])
    return folder


@pytest.mark.parametrize(
    "photo,options,words",
    [
        ("noface.png", [], "No face"),
        ("text.jpg", [], "not a picture"),
        ("cut.jpg", [], "damaged"),
        ("gone.jpg", [], "no picture"),
        (PORTRAITS[0], ["--years", "400"], "out of range"),
        (PORTRAITS[0], ["--face", "7"], "no face 7"),
        (PORTRAITS[0], ["--face", "left"], "not a face"),
        (PORTRAITS[0], ["--submodel", "1:1"], "no sub-model"),
        (PORTRAITS[0], ["--budget", "-3"], "positive"),
        (PORTRAITS[0], ["-o", "/nowhere/x.png"], "does not exist"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(bad_photos, tmp_path, photo, options, words):
    years = [] if "--years" in options else ["--years", 10]
    asked = ["edit", bad_photos / photo, "-o", tmp_path / "o.png", *years, *options, "--json"]
    result = CliRunner().invoke(main, [str(v) for v in asked])
    assert result.exit_code == 2 and result.stdout == ""
    assert (
        words in result.stderr
        and "Traceback" not in result.stderr
        and len(result.stderr.strip().splitlines()) == 1
    )
    assert not (tmp_path / "o.png").exists()


def test_the_libraries_banners_stay_out_of_the_sentence(bad_photos, tmp_path):
    result = agedit("edit", bad_photos / "noface.png", "-o", tmp_path / "o.png", "--years", 10, "--json")
    assert result.returncode == 2 and result.stdout == "" and len(result.stderr.strip().splitlines()) == 1


def test_a_budget_that_nothing_meets_still_edits(tmp_path):
    data = one_object(
        agedit(
            "edit",
            PORTRAITS[0],
            "-o",
            tmp_path / "o.png",
            "--years",
            10,
            "--budget",
            0.01,
            "--json",
            AGEDIT_PROFILES=str(tmp_path),
        )
    )
    assert data["notes"] and (tmp_path / "o.png").exists()


def test_evaluate_judges_a_folder(tmp_path):
    for path in PORTRAITS[:2]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "noface.png")
    data = one_object(agedit("evaluate", tmp_path, "--json"))
    assert data["photos"] == 2 and len(data["skipped"]) == 1
    assert {"plus30", "minus20", "plus17", "rank_correlation_median", "strict"} <= data.keys()
    assert data["plus30"]["background_changed"] == 0
    empty = agedit("evaluate", tmp_path / "none", "--json")
    assert empty.returncode == 2 and "no pictures" in empty.stderr


def test_the_apps_path_imports_neither_torch_nor_training():
    code = (
        "import sys, app, agedit.editor, agedit.selection.tuner, agedit.reports.info, agedit.reports.evaluate; "  # noqa: E501
        "bad = [m for m in sys.modules if m.split('.')[0] in ('torch', 'sklearn') or m.startswith(('agedit.training', 'agedit.network'))]; "  # noqa: E501
        "assert not bad, bad; assert 'gradio' in sys.modules"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True
        ).returncode
        == 0
    )
    code = "import sys, agedit.editor, agedit.selection.tuner, agedit.reports.evaluate; assert 'gradio' not in sys.modules"  # noqa: E501
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0


def test_train_explains_itself():
    result = agedit("train", "--help")
    assert result.returncode == 0
    assert all(
        stage in result.stdout
        for stage in ("prepare", "autoencoder", "age-vector", "generator", "calibrate", "export")
    )
    bad = agedit("train", "autoencoder", "--data", "/nowhere")
    assert bad.returncode == 2 and "missing" in bad.stderr


def test_rank_correlation_shares_ranks_of_equal_values():
    from agedit.reports.evaluate import rank_correlation

    assert rank_correlation([1, 2, 3], [5.0, 6.0, 9.0]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [9.0, 6.0, 5.0]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, 4], [1.0, 2.0, 2.0, 2.0]) < 0.9
    assert rank_correlation([1, 2, 3], [4.0, 4.0, 4.0]) == 0


def test_a_console_that_cannot_show_a_name_gets_its_numbers(tmp_path):
    photo = tmp_path / "中文→−.jpg"  # noqa: RUF001
    photo.write_bytes(PORTRAITS[0].read_bytes())
    out = tmp_path / "旧→.png"
    for encoding in ("cp1252", "ascii"):
        said = agedit(
            "edit", photo, "-o", out, "--years", 5, "--submodel", "64:0.25", PYTHONIOENCODING=encoding
        )
        assert said.returncode == 0 and "Traceback" not in said.stderr, said.stderr
        assert out.exists()
        if encoding == "cp1252":  # click itself speaks UTF-8 where the console says ASCII
            assert "\\u65e7\\u2192.png" in said.stdout
        out.unlink()
        gone = agedit(
            "edit", tmp_path / "没有.jpg", "-o", out, "--years", 5, PYTHONIOENCODING=encoding, PYTHONUTF8="0"
        )
        assert gone.returncode == 2 and "no picture" in gone.stderr and "Traceback" not in gone.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes there")
def test_a_name_that_is_no_text(tmp_path):
    photo = tmp_path / os.fsdecode(b"caf\xe9.jpg")
    photo.write_bytes(PORTRAITS[0].read_bytes())
    said = agedit(
        "edit", photo, "-o", tmp_path / os.fsdecode(b"\xe9.png"), "--years", 0, "--submodel", "64:0.25"
    )
    assert said.returncode == 0 and len(list(tmp_path.iterdir())) == 2, said.stderr


def test_an_output_name_as_long_as_the_system_allows(tmp_path):
    out = tmp_path / ("n" * 251 + ".png")
    one_object(agedit("edit", PORTRAITS[0], "-o", out, "--years", 0, "--submodel", "64:0.25", "--json"))
    assert np.array_equal(load_photo(out), load_photo(PORTRAITS[0]))
    longer = agedit("edit", PORTRAITS[0], "-o", tmp_path / ("n" * 252 + ".png"), "--years", 0, "--json")
    assert longer.returncode == 2 and "too long" in longer.stderr and len(longer.stderr.splitlines()) == 1


def test_an_edit_of_a_jpeg_has_its_quality_and_of_a_cutout_its_outline(tmp_path):
    out = tmp_path / "o.jpg"
    one_object(agedit("edit", PORTRAITS[0], "-o", out, "--years", 20, "--submodel", "64:0.25", "--json"))
    assert Image.open(out).quantization == Image.open(PORTRAITS[0]).quantization
    image = Image.open(PORTRAITS[0]).convert("RGBA")
    alpha = np.full(image.size[::-1], 255, np.uint8)
    alpha[:, :40] = 0
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "cutout.png")
    for years in (0, 20):
        one_object(
            agedit(
                "edit", tmp_path / "cutout.png", "-o", tmp_path / "o.png", "--years", years, "--submodel", "64:0.25",  # noqa: E501
                "--json",
            )
        )  # fmt: skip
        before, after = np.asarray(image), np.asarray(Image.open(tmp_path / "o.png"))
        assert np.array_equal(after[..., 3], alpha) and np.array_equal(after[:, :40], before[:, :40])
        assert np.array_equal(after, before) == (years == 0)


def test_a_sheet_says_that_it_is_synthetic(tmp_path):
    out = tmp_path / "sheet.png"
    said = agedit(
        "sheet", PORTRAITS[0], "-o", out, "--years", "0,20", "--submodel", "64:0.25", "--size", "128"
    )
    assert said.returncode == 0, said.stderr
    assert "compositeWithTrainedAlgorithmicMedia" in Image.open(out).info["xmp"].decode()
