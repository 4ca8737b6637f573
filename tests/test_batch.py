"""Many photos with one command: which, under which names, what fails, what is left out, and what is told."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import PORTRAITS, ROOT
from PIL import Image

from agedit import AgeEditError, AgeEditor, Engine, load_photo
from agedit.__main__ import main
from agedit.batch.inputs import list_photos, name_outputs, take_shard
from agedit.batch.run import Room
from agedit.edit_command import _one_number_each
from agedit.photo import open_photo
from agedit.runtime.pool import Pool

SMALL = ("--submodel", "64:0.25")


def edit(*args, stdin=None):
    return CliRunner().invoke(main, ["edit", *map(str, args)], input=stdin)


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def small_portraits(tmp_path_factory):
    """Two portraits, 360 px, and what is none."""
    folder = tmp_path_factory.mktemp("portraits")
    for path, name in zip(PORTRAITS, ("anna.jpg", "ben.png"), strict=False):
        Image.open(path).resize((360, 360)).save(folder / name, quality=90)
    Image.new("RGB", (300, 300), "grey").save(folder / "noface.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / "._anna.jpg").write_bytes(b"\0\5\x16\7")
    return folder


@pytest.fixture
def photos(small_portraits, tmp_path):
    return Path(shutil.copytree(small_portraits, tmp_path / "photos"))


def test_a_folder_goes_on_after_failures_and_resumes(photos, tmp_path):
    out = tmp_path / "new" / "edits"
    said = edit(photos, "-o", out, "--years", "20", "-15", *SMALL, "--json", "--jobs", 2)
    names = {"anna_+20_years.jpg", "anna_-15_years.jpg", "ben_+20_years.png", "ben_-15_years.png"}
    assert said.exit_code == 1 and {path.name for path in out.iterdir()} == names
    written = [row for row in rows(said) if "error" not in row]
    (failed,) = [row for row in rows(said) if "error" in row]
    assert {Path(row["output"]).name for row in written} == names
    assert all(row["submodel"] == {"r": 64, "c": 0.25} and row["years"] in (20, -15) for row in written)
    assert failed["photo"] == str(photos / "noface.png") and "No face" in failed["error"]
    assert (
        "compositeWithTrainedAlgorithmicMedia" in Image.open(out / "ben_+20_years.png").info["xmp"].decode()
    )

    (out / "ben_-15_years.png").unlink()
    os.utime(out / "anna_-15_years.jpg", (1, 1))  # the photo is newer
    stamps = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = edit(photos, "-o", out, "--years", "20,-15", *SMALL, "--json", "--resume")
    made = {Path(row["output"]).name for row in rows(again) if "years" in row}
    assert again.exit_code == 1 and made == {"ben_-15_years.png", "anna_-15_years.jpg"}
    assert (out / "anna_+20_years.jpg").stat().st_mtime_ns == stamps["anna_+20_years.jpg"]
    (photos / "noface.png").unlink()
    last = edit(photos, "-o", out, "--years", 20, "--years", -15, *SMALL, "--json", "--resume")
    assert last.exit_code == 0 and all(row["skipped"] for row in rows(last)) and len(rows(last)) == 4


def test_one_line_for_each_that_failed_and_the_status_of_nothing_done(photos, tmp_path):
    (photos / "line\nbreak\x1b[2J.jpg").write_text("no picture")
    names = [photos / "gone.jpg", photos / "line\nbreak\x1b[2J.jpg", tmp_path / "empty"]
    (tmp_path / "empty").mkdir()
    said = edit(*names, "-o", tmp_path / "out", "--years", 20, *SMALL)
    lines = said.stderr.splitlines()
    assert said.exit_code == 2 and said.stdout == "" and len(lines) == 4 and lines[-1] == "3 failed"
    assert "\x1b" not in said.stderr and "Traceback" not in said.stderr
    assert any("no picture at" in line for line in lines) and any(
        "No pictures are in" in line for line in lines
    )
    good = edit(photos / "anna.jpg", names[0], "-o", tmp_path / "out", "--years", 20, *SMALL)
    assert good.exit_code == 1 and good.stderr.splitlines()[-1] == "1 written, 1 failed"
    assert len(good.stdout.splitlines()) == 1 and "anna_+20_years.jpg: +20 years with 64 px" in good.stdout


def test_an_error_of_a_library_stops_no_other_photo(photos, tmp_path, monkeypatch):
    set_photo = AgeEditor.set_photo

    def fail_for_ben(self, rgb):
        if np.array_equal(rgb, load_photo(photos / "ben.png")):
            raise RuntimeError("of a\nlibrary")
        return set_photo(self, rgb)

    monkeypatch.setattr(AgeEditor, "set_photo", fail_for_ben)
    said = edit(photos / "ben.png", photos / "anna.jpg", "-o", tmp_path / "out", "--years", 5, *SMALL)
    assert said.exit_code == 1 and "ben.png: It could not be edited (of a library)." in said.stderr
    assert (tmp_path / "out" / "anna_+5_years.jpg").exists()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--years", 400], "out of range"),
        (["--years", "old"], "not a number of years"),
        (["--years", 20, "--shard", "0/4"], "is not a part"),
        (["--years", 20, "--shard", "5/4"], "is not a part"),
        (["--years", 20, "--jobs", 0], "jobs"),
        (["--years", 20, "--face", "left"], "not a face"),
        (["--years", 20, "--submodel", "1:1"], "no sub-model"),
        (["--years", 20, "--budget", 50, "--submodel", "64:0.25"], "not both"),
    ],
)
def test_what_is_wrong_with_the_command_is_said_before_anything_is_written(photos, tmp_path, options, words):
    said = edit(photos, "-o", tmp_path / "out", *options)
    assert said.exit_code == 2 and words in said.stderr and len(said.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_several_edits_want_a_folder(photos, tmp_path):
    for output in (tmp_path / "old.png", photos / "notes.txt", "-"):
        said = edit(photos, "-o", output, "--years", 20)
        assert said.exit_code == 2 and "is no folder" in said.stderr


def test_a_photo_is_never_written_over(photos, tmp_path):
    before = (photos / "anna.jpg").read_bytes()
    os.symlink(photos / "anna.jpg", tmp_path / "link.jpg")
    for output in (photos / "anna.jpg", tmp_path / "link.jpg", photos / ".." / "photos" / "anna.jpg"):
        said = edit(photos / "anna.jpg", "-o", output, "--years", 20, *SMALL)
        assert said.exit_code == 2 and "is the photo itself" in said.stderr
    (photos / "anna_+20_years.jpg").write_bytes(before)
    said = edit(photos, "-o", photos, "--years", 20, *SMALL)
    assert said.exit_code == 2 and "is one of the photos" in said.stderr
    assert (photos / "anna.jpg").read_bytes() == before
    assert (photos / "anna_+20_years.jpg").read_bytes() == before
    goes_on = edit(photos, "-o", photos, "--years", 20, *SMALL, "--resume", "--json")
    outputs = {Path(row["output"]).name for row in rows(goes_on) if "output" in row}
    assert outputs == {"anna_+20_years.jpg", "ben_+20_years.png"}  # and no edit of the edit
    assert (photos / "anna_+20_years.jpg").read_bytes() == before


def test_pipes(photos, tmp_path):
    content = (photos / "anna.jpg").read_bytes()
    said = subprocess.run(
        [sys.executable, "-m", "agedit", "edit", "-", "-o", "-", "--years", "20", *SMALL],
        input=content,
        capture_output=True,
        check=False,
        cwd=ROOT,
    )
    assert said.returncode == 0, said.stderr
    piped = Image.open(io.BytesIO(said.stdout))
    assert piped.format == "JPEG" and b"+20 years with" in said.stderr
    edit(photos / "anna.jpg", "-o", tmp_path / "o.jpg", "--years", 20, *SMALL)
    assert np.array_equal(np.asarray(piped), load_photo(tmp_path / "o.jpg"))
    assert (
        edit("-", "-o", tmp_path, "--years", 0, *SMALL, stdin=(photos / "ben.png").read_bytes()).exit_code
        == 0
    )
    assert np.array_equal(load_photo(tmp_path / "photo_+0_years.png"), load_photo(photos / "ben.png"))
    bad = edit("-", "-o", "-", "--years", 20, stdin=b"no picture")
    assert bad.exit_code == 2 and bad.stdout == "" and "not a picture" in bad.stderr


def test_which_photos_are_meant(photos):
    (photos / "more").mkdir()
    shutil.copy(photos / "anna.jpg", photos / "more" / "zoe.JPG")
    shutil.copy(photos / "anna.jpg", photos / "a[1].jpg")
    flat = [str(photos / name) for name in ("a[1].jpg", "anna.jpg", "ben.png", "noface.png")]
    assert list_photos([str(photos)]).photos == flat
    assert list_photos([f"{photos}/*"]).photos == flat
    assert list_photos([f"{photos}/**"]).photos == [*flat[:3], str(photos / "more" / "zoe.JPG"), flat[3]]
    assert list_photos([flat[0]]).photos == flat[:1]  # a name, not a pattern
    assert list_photos([str(photos), flat[2], f"{photos}/b*"]).photos == flat  # each once
    none = list_photos([f"{photos}/*.heic", flat[1]])
    assert none.photos == flat[1:2] and "No pictures match" in none.failed[0][1]


def test_names_differ_and_say_what_they_are():
    photos = ["a/me.jpg", "b/me.jpg", "b/me.png", "b/ME.heic", "c/you.jpg", "d/b/me.jpg", "n" * 300 + "1.jpg", "n" * 300 + "2.jpg"]  # noqa: E501  # fmt: skip
    names = name_outputs(photos, (20, -5))
    flat = [name.casefold() for by_years in names.values() for name in by_years.values()]
    assert len(set(flat)) == len(flat) and all(len(name.encode()) <= 255 for name in flat)
    assert names["c/you.jpg"] == {20: "you_+20_years.jpg", -5: "you_-5_years.jpg"}
    assert names["a/me.jpg"][20] == "a_me_jpg_+20_years.jpg" and "me_png" in names["b/me.png"][20]
    assert name_outputs(photos[::-1], (20, -5)) == names


def test_shards_share_the_photos_out():
    photos = [f"{k}.jpg" for k in range(10)]
    parts = [take_shard(photos, f"{k}/3") for k in (1, 2, 3)]
    assert (
        sorted([*parts[0], *parts[1], *parts[2]]) == photos
        and max(map(len, parts)) - min(map(len, parts)) == 1
    )
    assert take_shard(photos, "12/16") == [] and take_shard(photos, None) == photos
    for text in ("0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5", "\u0661/\u0663"):
        with pytest.raises(AgeEditError, match="is not a part"):
            take_shard(photos, text)


def test_years_take_all_numbers_that_follow(photos):
    words = ["a.jpg", "--years", "-20", "20", "40", "-o", "out", "5"]
    assert list(_one_number_each(words)) == [
        "a.jpg", "--years", "-20", "--years=20", "--years=40", "-o", "out", "5",
    ]  # fmt: skip
    assert list(_one_number_each(["--years=3", "4", "b.jpg", "7"])) == [
        "--years=3",
        "--years=4",
        "b.jpg",
        "7",
    ]
    assert list(_one_number_each(["--", "--years", "2", "3"])) == ["--", "--years", "2", "3"]


def test_workers_do_not_mix_their_photos_up(small_portraits):
    """Two threads over one engine give what one alone does, and have each half of it for itself."""
    shared = Engine(threads=1, workers=2)
    pictures = [load_photo(small_portraits / name) for name in ("anna.jpg", "ben.png")]

    def edited(picture):
        editor = AgeEditor(shared, (64, 0.25))
        editor.set_photo(picture)
        return editor.edit(30).picture

    alone = [edited(picture) for picture in pictures]
    together: dict[int, list] = {0: [], 1: []}

    def work(k):
        together[k] += [edited(pictures[k]) for _ in range(3)]

    threads = [threading.Thread(target=work, args=(k,)) for k in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in (0, 1):
        assert len(together[k]) == 3
        assert all(np.array_equal(picture, alone[k]) for picture in together[k])


def test_a_pool_serves_as_many_at_once_as_it_may():
    made = []
    pool = Pool(lambda: made.append(0) or len(made), 2)
    both = threading.Barrier(2, timeout=20)
    taken = []

    def work():
        with pool.taken() as item:
            taken.append(item)
            both.wait()  # only both together get by

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [1, 2]
    with pool.taken():
        pass
    assert len(made) == 2  # those that are free are used again


def test_a_photo_waits_until_there_is_room(small_portraits):
    room = Room(pixels=100)  # one more is opened at up to so many
    second = threading.Event()
    first = room.opened(str(small_portraits / "anna.jpg"))

    def open_second():
        with room.opened(str(small_portraits / "ben.png")):
            second.set()

    thread = threading.Thread(target=open_second)
    with first:
        thread.start()
        assert not second.wait(0.3)
    assert second.wait(60)
    thread.join()


def test_an_interrupted_run_leaves_whole_edits_and_says_how_to_go_on(photos, tmp_path, monkeypatch):
    import agedit.batch.run as run

    def interrupt(futures):
        for future in futures[:1]:
            future.result()
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "as_completed", interrupt)
    said = edit(photos, "-o", tmp_path / "out", "--years", 20, *SMALL, "--jobs", 1)
    assert said.exit_code == 130 and "--resume" in said.stderr
    assert all(open_photo(path).rgb.size for path in (tmp_path / "out").iterdir())
