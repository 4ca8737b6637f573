"""Nothing stays of a visit: sessions, uploads, files, memory and what dead processes leave; and who waits for
whom.
"""

import errno
import functools
import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time
import types
import weakref
from pathlib import Path

import numpy as np
import pytest
from conftest import PORTRAITS, ROOT, free_port
from PIL import Image

from agedit import AgeEditError
from agedit.photo import Photo
from ui import files, workspace
from ui import sessions as process_sessions
from ui.board import nothing
from ui.edit_files import Journeys
from ui.edit_picture import PictureHandlers
from ui.files import Files, Forgotten
from ui.held import Held
from ui.line import Line
from ui.photo_opening import PhotoOpening
from ui.photos import Upload, ages_name
from ui.service import Service
from ui.sessions import CALL, CHECKS_EVERY, GRACE, UNCLAIMED, Sessions
from ui.visit import Visit

GRACE_IN_ALL = 20.0  # s that a visit may outlive its page


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """A workspace of the test's own."""
    made = workspace.make(tmp_path / "temporary")
    monkeypatch.setattr(workspace, "root", lambda: made)
    monkeypatch.setattr(files, "visits_folder", lambda: made / workspace.VISITS)
    return made


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(clock, monkeypatch):
    """In place of the process's own, with a clock that can be set."""
    sessions = Sessions(clock)
    monkeypatch.setattr(process_sessions, "sessions", sessions)
    monkeypatch.setattr("ui.photo_opening.sessions", sessions)
    monkeypatch.setattr("ui.waiting.sessions", sessions)
    return sessions


def upload(folder, sessions, content=b"a photo"):
    place = folder / workspace.UPLOADS / os.urandom(8).hex()
    place.mkdir()
    path = place / "photo.jpg"
    path.write_bytes(content)
    sessions.received(path)
    return path


def left(folder):
    """Files of visits that are still there."""
    return [path for path in folder.rglob("*") if path.is_file() and path.name != workspace.LOCK]


class Shown:
    """As much of a visit as `Sessions` wants."""

    def __init__(self, path):
        self.path = str(path)
        self.token = f"token of {path}"
        self.files = Files()
        self.files.write(b"an edit", "after.jpeg")

    def delete(self):
        self.files.delete()


def shown(sessions, session, path):
    number = sessions.chooses(session)
    sessions.claim(session, path)
    visit = Shown(path)
    assert sessions.shows(session, visit, number)
    return visit


# pages that are closed


def test_a_closed_page_leaves_nothing_after_the_grace(folder, sessions, clock):
    sessions.connected("page")
    shown(sessions, "page", upload(folder, sessions))
    clock.now += 10_000
    sessions.check()
    assert len(left(folder)) == 2  # an open page may do nothing for as long as it likes
    sessions.disconnected("page")
    clock.now += GRACE - 1
    sessions.check()
    assert len(left(folder)) == 2
    clock.now += 2
    sessions.check()
    assert not left(folder) and not len(sessions) and not sessions.uploads
    assert GRACE + CHECKS_EVERY < GRACE_IN_ALL


def test_a_page_that_comes_back_in_time_keeps_its_photo(folder, sessions, clock):
    sessions.connected("page")
    visit = shown(sessions, "page", upload(folder, sessions))
    sessions.disconnected("page")
    clock.now += GRACE - 1
    sessions.connected("page")
    clock.now += 100
    sessions.check()
    assert len(left(folder)) == 2
    visit.files.write(b"more", "after.jpeg")


def test_what_comes_back_after_the_end_is_not_kept(folder, sessions, clock):
    sessions.connected("page")
    path = upload(folder, sessions)
    number = sessions.chooses("page")
    sessions.claim("page", path)
    visit = Shown(path)  # still being computed when the page goes
    sessions.disconnected("page")
    clock.now += GRACE + 1
    sessions.check()
    with pytest.raises(Forgotten):
        sessions.shows("page", visit, number)
    with pytest.raises(Forgotten):
        visit.files.write(b"an edit", "after.jpeg")
    with pytest.raises(Forgotten):
        sessions.chooses("page")
    assert not left(folder) and not len(sessions)


def test_a_session_that_never_held_a_connection_ends_too(folder, sessions, clock):
    shown(sessions, "program", upload(folder, sessions))
    clock.now += GRACE + 1
    sessions.check()
    assert not left(folder) and not len(sessions)


def test_another_photo_ends_the_one_before(folder, sessions):
    sessions.connected("page")
    first = shown(sessions, "page", upload(folder, sessions))
    second = upload(folder, sessions)
    shown(sessions, "page", second)
    assert not first.files.folder.exists() and len(left(folder)) == 2


def test_of_two_photos_chosen_at_once_the_last_is_shown(folder, sessions):
    sessions.connected("page")
    first, second = upload(folder, sessions), upload(folder, sessions)
    number = sessions.chooses("page")
    shown(sessions, "page", second)
    late = Shown(first)
    assert not sessions.shows("page", late, number)
    assert {path for path in left(folder) if path.name == "photo.jpg"} == {second}


# uploads


def test_an_upload_that_nobody_asks_for_is_deleted_unless_a_call_waits_for_it(folder, sessions, clock):
    forgotten, waits = upload(folder, sessions), upload(folder, sessions)
    sessions.wanted = lambda path: path == str(waits)
    clock.now += UNCLAIMED + 1
    sessions.check()
    assert left(folder) == [waits] and not forgotten.parent.exists()
    assert UNCLAIMED + CHECKS_EVERY < GRACE_IN_ALL


@pytest.mark.parametrize(
    "name", ["..", ".", "", "../..", "photo.jpg/..", "/", "/etc/passwd", "\0", "nothing"]
)
def test_only_ones_own_uploads_can_be_named(folder, sessions, clock, name):
    mine = upload(folder, sessions)
    for path in (mine.parent / name, mine.parent, folder, folder / workspace.UPLOADS, Path(name)):
        with pytest.raises(AgeEditError, match="not uploaded here"):
            sessions.claim("page", path)
        sessions.drop(path)
        files.remove(folder)
        files.remove(folder / workspace.UPLOADS)
    assert left(folder) == [mine]
    clock.now += 100
    sessions.check()  # the cleaning goes on
    assert not left(folder) and (folder / workspace.UPLOADS).is_dir()


def test_a_page_that_is_loaded_again_takes_its_visit_over(folder, sessions, clock):
    sessions.connected("before")
    mine = upload(folder, sessions)
    sessions.claim("before", mine)
    visit = Shown(mine)
    sessions.shows("before", visit, sessions.chooses("before"))
    sessions.connected("after")
    assert not sessions.has_chosen("after")
    for wrong in ("", "token of something else", "ü"):
        assert sessions.take_over("after", wrong) is None
    assert sessions.take_over("after", visit.token) is visit
    assert sessions.has_chosen("after") and sessions.anybody()
    sessions.disconnected("before")
    clock.now += GRACE + 1
    sessions.check()  # the page before has ended, and took nothing along
    assert mine.exists() and not sessions.is_open("before")
    sessions.disconnected("after")
    assert not sessions.anybody()
    clock.now += GRACE + 1
    sessions.check()
    assert not left(folder)


def test_nobody_can_name_anothers_upload(folder, sessions):
    theirs = upload(folder, sessions)
    sessions.claim("one", theirs)
    sessions.claim("one", theirs)
    with pytest.raises(AgeEditError, match="not uploaded here"):
        sessions.claim("two", theirs)
    assert theirs.exists()


def test_one_visit_that_cannot_be_deleted_stops_no_cleaning(folder, sessions, clock):
    class Stubborn(Shown):
        def delete(self):
            raise OSError("no")

    for session in ("one", "two", "three"):
        number = sessions.chooses(session)
        path = upload(folder, sessions)
        sessions.claim(session, path)
        sessions.shows(session, (Stubborn if session == "two" else Shown)(path), number)
        path.unlink()
        path.mkdir()  # what was a file is a folder now
    clock.now += 100
    sessions.check()
    assert not len(sessions) and not sessions.uploads
    assert [path.name for path in left(folder)] == ["after.jpeg"]


def test_a_chore_after_cleaning_that_fails_stops_no_other(sessions):
    def broken():
        raise OSError("no")

    done = []
    sessions.after_checks = [broken, lambda: done.append(True)]
    sessions.check()
    assert done == [True]


def test_of_all_pages_that_ever_were_only_the_last_are_remembered(sessions, clock, monkeypatch):
    monkeypatch.setattr(process_sessions, "REMEMBERED", 3)
    for number in range(10):
        sessions.connected(f"page {number}")
        sessions.disconnected(f"page {number}")
        clock.now += GRACE + 1
        sessions.check()
    assert [number for number in range(10) if sessions.has_ended(f"page {number}")] == [7, 8, 9]


def test_results_of_a_call_stay_for_a_while_and_none_come_after_the_end(folder, sessions, clock):
    results = Files()
    results.write(b"an edit", "edit.png")
    sessions.keep("program", results)
    clock.now += CALL - 1
    sessions.check()
    assert len(left(folder)) == 1  # longer than a page that is gone: a program holds no connection
    clock.now += 2
    sessions.check()
    assert not left(folder)
    late = Files()
    late.write(b"an edit", "edit.png")
    with pytest.raises(Forgotten):
        sessions.keep("program", late)
    assert not left(folder)


def test_old_files_go_unless_a_visit_is_known_to_need_them(folder, sessions):
    needed = upload(folder, sessions)
    upload(folder, sessions)
    (folder / workspace.SPOOL / "stray").write_bytes(b"of a library")
    files.purge({needed}, older_than=3600)
    assert len(left(folder)) == 3
    files.purge({needed}, older_than=-10)
    assert left(folder) == [needed]


def test_the_last_versions_of_a_picture_stay(folder):
    mine = Files()
    written = [Path(mine.write(b"%d" % k, "after.jpeg", kept=2)) for k in range(5)]
    assert sorted(left(folder)) == sorted(written[-2:])


def test_cleaning_stays_below_its_own_folder(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    link = folder / workspace.UPLOADS / "link"
    link.symlink_to(outside)
    for path in (outside, link, link / "kept", folder / ".." / ".." / "outside", folder):
        files.remove(path)
    assert (outside / "kept").exists() and folder.exists()


# files


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(folder, monkeypatch):
    def half(path, data):
        with open(path, "wb") as out:
            out.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    mine = Files()
    mine.write(b"first", "a.jpeg")
    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(AgeEditError, match=r"^The disk is full; .*\.$"):
        mine.write(b"second", "a.jpeg")
    assert [path.read_bytes() for path in left(folder)] == [b"first"]


def test_files_are_this_users_alone(folder):
    mine = Files()
    path = Path(mine.write(b"data", "a.jpeg"))
    for place in (folder, mine.folder, path.parent):
        assert place.stat().st_mode & 0o077 == 0


# what dead processes leave

HOLD = (
    "import sys, time; sys.path.insert(0, {root!r})\n"
    "from pathlib import Path\n"
    "from ui import workspace\n"
    "folder = workspace.make(Path({parent!r})); (folder / 'uploads' / 'photo.jpg').write_text('private')\n"
    "print(folder, flush=True); time.sleep(600)\n"
)


def process_with_a_folder(parent):
    code = HOLD.format(root=str(ROOT), parent=str(parent))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    return process, Path(process.stdout.readline().strip())


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal here")
def test_the_sweep_takes_what_a_killed_process_left_and_nothing_else(tmp_path):
    parent = tmp_path / "shared"
    parent.mkdir()
    outside = tmp_path / "outside"
    (outside / "uploads").mkdir(parents=True)
    (outside / workspace.LOCK).touch()
    (parent / "agedit-link").symlink_to(outside)
    for name in ("agedit-notes", "other-abc"):  # no lock of ours, not our prefix
        (parent / name).mkdir()
        (parent / name / "file").touch()
    (parent / "other-abc" / workspace.LOCK).touch()
    (parent / "agedit-linked-lock").mkdir()
    (parent / "agedit-linked-lock" / workspace.LOCK).symlink_to(outside / workspace.LOCK)
    dead, gone = process_with_a_folder(parent)
    alive, kept = process_with_a_folder(parent)
    try:
        dead.kill()
        dead.wait(20)
        assert (gone / "uploads" / "photo.jpg").exists()
        assert workspace.sweep(parent) == [gone]
        assert not gone.exists() and (kept / "uploads" / "photo.jpg").exists()
        assert (outside / workspace.LOCK).exists() and (outside / "uploads").exists()
        assert {path.name for path in parent.iterdir()} == {
            "agedit-link",
            "agedit-notes",
            "other-abc",
            "agedit-linked-lock",
            kept.name,
        }
    finally:
        for process in (dead, alive):
            process.kill()
            process.wait(20)
            process.stdout.close()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no user numbers here")
def test_the_sweep_leaves_other_users_folders_alone(tmp_path, monkeypatch):
    folder = tmp_path / "agedit-theirs"
    folder.mkdir()
    (folder / workspace.LOCK).touch()
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert workspace.sweep(tmp_path) == [] and folder.exists()


def test_a_temporary_folder_that_takes_nothing_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(AgeEditError, match=r"^The temporary folder cannot be written .*TMPDIR.*\.$"):
        workspace.make(tmp_path)


def test_every_librarys_temporary_files_go_into_the_one_folder(folder, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")  # as it is once somebody has asked for it
    monkeypatch.setenv("TMPDIR", "/nowhere")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/nowhere")
    monkeypatch.setattr(workspace, "sweep", lambda parent: [])
    workspace.move_in()
    from gradio.utils import get_upload_folder

    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).is_relative_to(folder)
    assert Path(get_upload_folder()).is_relative_to(folder)
    assert Path(os.environ["TMPDIR"]).is_relative_to(folder)


# who waits


def test_who_is_in_line_knows_how_many_are_ahead():
    line = Line()
    with line.place() as first, line.place() as second, line.place() as third:
        assert first.wait(0) and not second.wait(0) and not third.wait(0)
        assert (first.ahead, second.ahead, third.ahead) == (0, 1, 2) and len(line) == 3
    assert len(line) == 0


def request(session="page", language="en"):
    return types.SimpleNamespace(session_hash=session, headers={"accept-language": language})


@pytest.mark.parametrize("language, words", [("en", "busy; ahead of you: {}"), ("zh", "前面还有 {} 人")])
def test_a_visitor_who_waits_is_told_how_many_are_ahead(language, words, sessions):
    from ui.waiting import until_served

    line, told = Line(), []
    with line.place() as mine:
        told += list(until_served(mine, request("a", language)))
    assert not told  # nobody was ahead
    first = line.place()
    first.__enter__()
    second = line.place()
    second.__enter__()
    with line.place() as mine:
        for text in until_served(mine, request("a", language)):
            told.append(text)
            (first if len(told) == 1 else second).__exit__(None, None, None)
    assert len(told) == 2
    assert words.format(2) in told[0] and words.format(1) in told[1]


def test_who_waits_for_a_page_that_was_closed_goes_away(sessions, clock, monkeypatch):
    from ui.waiting import until_served

    sessions.connected("page")
    sessions.disconnected("page")
    line = Line()
    with line.place(), line.place() as mine:
        looks = iter(range(50))
        monkeypatch.setattr(mine, "wait", lambda seconds: next(looks) is None)  # never served, nor for ever
        waiting = until_served(mine, request())
        assert "1" in next(waiting)
        clock.now += GRACE + 1
        sessions.check()
        with pytest.raises(Forgotten):
            next(waiting)


# visits, with an editor that takes no time


def a_photo(shape):
    """A Photo of zeros."""
    zeros = np.zeros(shape, np.uint8)
    return Photo(zeros, zeros)


class FakeFace:
    points = np.zeros((2, 2))


class FakeEditor:
    """Holds a photo and does nothing with it."""

    made: "weakref.WeakSet[FakeEditor]" = weakref.WeakSet()  # noqa: RUF012

    def __init__(self, engine):
        self.engine = engine
        self.rgb = None
        self.faces = [FakeFace()]
        self._prepared = {}
        FakeEditor.made.add(self)

    def set_photo(self, rgb):
        self.rgb = rgb
        self._prepared = {0: np.zeros(1000)}

    def view(self, limit=None):
        return self.rgb[::8, ::8]


class FakeEngine:
    weights = types.SimpleNamespace(order=[(64, 0.25)], candidates=[(64, 0.25)], years_range=(-30, 40))


@pytest.fixture
def service(monkeypatch):
    monkeypatch.setattr("ui.visitor_photo.AgeEditor", FakeEditor)
    monkeypatch.setattr("ui.service.Tuner", lambda engine, lock: types.SimpleNamespace())
    return Service(FakeEngine())


class CopyingPicture(PictureHandlers):
    """Its edits are the photo itself."""

    def show(self, visit, *args):
        visit.write(b"an edit" * 1000, "after.jpeg")
        return visit.before(), "text", {}


class Tab:
    """The handlers of the Edit tab, without the tab."""

    def __init__(self, service):
        self.service = service
        self.photo = PhotoOpening(service, CopyingPicture(service))
        self.journeys = Journeys(service)


@functools.lru_cache(maxsize=2)
def content(size):
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def photo(folder, sessions, size=(1200, 900)):
    return upload(folder, sessions, content(size))


def opening(tab, path, session="page"):
    return tab.photo.open_photo(Upload(str(path), "me.jpg"), 20, 150, "photo", False, request(session))


def test_an_opened_photo_is_shown_and_named_after_the_visitors_file(folder, sessions, service):
    sessions.connected("page")
    *_, last = opening(Tab(lambda: service), photo(folder, sessions))
    visit = last[0]
    assert visit.name == "me.jpg" and "me" not in visit.path and not visit.closed
    with Image.open(
        last[1]
    ) as preview:  # what the page shows of the photo is made here, whatever was uploaded
        assert preview.format == "JPEG" and preview.size == (150, 113)
    assert not any("me" in Path(path).stem for path in left(folder))


def test_a_photo_that_cannot_be_used_leaves_no_old_person_behind(folder, sessions, service):
    import gradio as gr

    sessions.connected("page")
    tab = Tab(lambda: service)
    *_, first = opening(tab, photo(folder, sessions))
    answers = []
    with pytest.raises(gr.Error):
        for answer in opening(tab, upload(folder, sessions, b"no picture")):
            answers.append(answer)
    assert first[0].closed and answers[-1][0] is None and answers[-1][1] == nothing()
    assert answers[-1][2] == ""
    assert not left(folder)


def test_another_photo_stops_the_journey_of_the_one_before_and_clears_its_strip(
    folder, sessions, service, monkeypatch
):
    sessions.connected("page")
    tab = Tab(lambda: service)
    steps = ((k + 1, 9, float(k), np.zeros((8, 8, 3), np.uint8)) for k in range(9))
    monkeypatch.setattr(tab.journeys, "_steps", lambda visit, budget, who: service.one_by_one(visit, steps))
    *_, first = opening(tab, photo(folder, sessions))
    trip = tab.journeys.travel(first[0], 150, None, request())
    next(trip)
    begun, *_, _ = opening(tab, photo(folder, sessions))
    assert begun[-4]["value"] is None and begun[-4]["visible"] is False  # the film
    assert all(button["interactive"] is False for button in begun[-3:])
    rest = list(trip)
    assert len(rest) == 1 and rest[0][-2]["interactive"] is False  # over, with no strip
    assert not any("value" in update for update in rest[0][:-2])


def test_an_edit_gets_in_between_two_steps_of_a_journey(folder, sessions, service):
    visit = Visit(service, photo(folder, sessions))
    begun, edited = threading.Event(), threading.Event()
    order = []

    def steps():
        for k in range(2):
            order.append(f"step {k}")
            begun.set()
            yield k

    def edit():
        begun.wait(20)
        with service.lock:
            order.append("edit")
        edited.set()

    thread = threading.Thread(target=edit)
    thread.start()
    for _ in service.one_by_one(visit, steps()):
        assert edited.wait(20)  # the lock is free between two steps
    thread.join(20)
    assert order == ["step 0", "edit", "step 1"]


def test_a_photo_is_decoded_while_others_edit(folder, sessions, service, monkeypatch):
    path, decoded = photo(folder, sessions), threading.Event()

    def decode(path, name):
        decoded.set()
        return a_photo((90, 120, 3))

    monkeypatch.setattr("ui.visitor_photo.decode", decode)
    with service.lock:
        thread = threading.Thread(target=Visit, args=(service, path))
        thread.start()
        assert decoded.wait(20)  # although the engine is not free
    thread.join(20)


def test_a_visit_that_closes_while_its_photo_is_read_leaves_nothing(folder, sessions, service, monkeypatch):
    visit = Visit(service, photo(folder, sessions), opened=False)

    def decode(path, name):
        visit.delete()
        return a_photo((90, 120, 3))

    monkeypatch.setattr("ui.visitor_photo.decode", decode)
    with pytest.raises(Forgotten):
        visit.find_faces(visit.read())
    assert visit._editor is None and visit.pixels == 0 and len(service.held) == 0


def test_a_deleted_visit_lets_go_of_the_photo(folder, sessions, service):
    visit = Visit(service, photo(folder, sessions))
    editor = weakref.ref(visit.editor)
    visit.delete()
    assert editor() is None and visit._photo is None
    with pytest.raises(Forgotten):
        visit.editor  # noqa: B018


def test_a_photo_without_a_face_is_not_held(folder, sessions, service, monkeypatch):
    import gradio as gr

    def refuse(self, rgb):
        raise AgeEditError("No face was found.")

    monkeypatch.setattr(FakeEditor, "set_photo", refuse)
    sessions.connected("page")
    with pytest.raises(gr.Error):
        list(opening(Tab(lambda: service), photo(folder, sessions)))
    assert len(service.held) == 0 and not left(folder)


# how much is held


def test_the_photo_unused_for_longest_is_put_aside_and_nothing_of_the_visit_is_lost(
    folder, sessions, service
):
    service.held = Held(2 * (1200 * 900 + 13_000_000))
    visits = [Visit(service, photo(folder, sessions)) for _ in range(2)]
    visits[0].years = {0: 33}
    assert all(visit.pixels for visit in visits)
    assert visits[0].editor.rgb is not None  # so that the second is the one unused for longest
    third = Visit(service, photo(folder, sessions))
    assert [bool(visit.pixels) for visit in (*visits, third)] == [True, False, True]
    assert visits[1].editor.rgb.shape == (900, 1200, 3)  # read again
    assert [bool(visit.pixels) for visit in (*visits, third)] == [False, True, True]
    assert visits[0].years == {0: 33} and not any(visit.closed for visit in visits)


def test_a_photo_that_is_worked_on_is_not_put_aside(folder, sessions, service):
    service.held = Held(1200 * 900 + 13_000_000)
    first = Visit(service, photo(folder, sessions))
    with first.using_it():
        with pytest.raises(AgeEditError, match=r"^Too many photos .* try again in a minute\.$"):
            Visit(service, photo(folder, sessions))
        assert first.pixels
    Visit(service, photo(folder, sessions))
    assert not first.pixels


# a hundred visits


def resident():
    """Bytes of this process in memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def end_idle(tab, path, session):
    list(opening(tab, path, session))


def end_before_anything_is_asked(tab, path, session):
    """The upload is there, its event is not."""


def end_in_line(tab, path, session):
    with tab.service().decoding.place():
        waiting = opening(tab, path, session)
        next(waiting)
        next(waiting)
        waiting.close()


def end_while_computing(tab, path, session):
    """The handler goes on, and comes back when the page has gone."""
    handler = opening(tab, path, session)
    next(handler)
    tab.late.append(handler)


def end_in_a_journey(tab, path, session):
    *_, last = opening(tab, path, session)
    trip = tab.journeys.travel(last[0], 150, None, request(session))
    next(trip)
    tab.late.append(trip)


def end_with_a_broken_photo(tab, path, session):
    import gradio as gr

    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(gr.Error):
        list(opening(tab, path, session))


def end_after_three_photos(tab, path, session):
    for _ in range(3):
        list(opening(tab, path, session))
        path = photo(tab.folder, tab.sessions)


ENDS = (
    end_idle,
    end_before_anything_is_asked,
    end_in_line,
    end_while_computing,
    end_in_a_journey,
    end_with_a_broken_photo,
    end_after_three_photos,
)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_hundred_visits_that_end_in_every_way_leave_nothing(folder, sessions, clock, service, monkeypatch):
    monkeypatch.setattr("ui.waiting.PATIENT", 0.0)
    monkeypatch.setattr("ui.waiting.LOOKS_EVERY", 0.0)
    tab = Tab(lambda: service)
    tab.folder, tab.sessions, tab.late = folder, sessions, []
    monkeypatch.setattr(
        tab.journeys,
        "_steps",
        lambda visit, budget, who: service.one_by_one(
            visit, ((1, 9, 0.0, np.zeros((8, 8, 3), np.uint8)) for _ in range(9))
        ),
    )
    FakeEditor.made.clear()
    before = 0
    for k in range(100):
        session = f"page {k}"
        sessions.connected(session)
        ENDS[k % len(ENDS)](tab, photo(folder, sessions, (1600, 1200)), session)
        sessions.disconnected(session)
        clock.now += GRACE_IN_ALL
        sessions.check()
        for handler in tab.late:
            list(handler)
        tab.late.clear()
        assert not left(folder), ENDS[k % len(ENDS)].__name__
        if k == 13:
            gc.collect()
            before = resident()
    gc.collect()
    assert not len(sessions) and not sessions.uploads and not len(service.held)
    assert not list(FakeEditor.made)
    assert [len(line) for line in (service.edits, service.decoding, service.journeys)] == [0, 0, 0]
    assert resident() - before < 30e6  # 86 photos of 5.8 MB went through


# what is saved


@pytest.mark.parametrize(
    "name, saved",
    [
        ("me.jpg", "me_ages.gif"),
        ("", "photo_ages.gif"),
        ("../../etc/passwd.jpg", "passwd_ages.gif"),
        ("C:\\photos\\我.heic", "我_ages.gif"),
    ],
)
def test_a_film_is_named_after_its_photo(name, saved):
    assert ages_name(name, ".gif") == saved


# what Gradio itself keeps


@pytest.fixture
def served(folder, monkeypatch):
    """(the page, its address), served in this process; nothing of it stays here."""
    import tempfile

    import uvicorn

    from ui.page import build
    from ui.server import guarded

    monkeypatch.setattr(process_sessions, "GRACE", 0.5)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "set again by the page")
    monkeypatch.setenv("TMPDIR", "set again by the page")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(process_sessions.sessions, "after_checks", [])
    page, port = build(None), free_port()
    server = uvicorn.Server(
        uvicorn.Config(guarded(page), port=port, log_level="error", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield page, f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(20)


def wait_until(holds, seconds=60.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_gradio_forgets_a_session_that_is_over_and_no_other(served, folder):
    from gradio_client import Client, handle_file

    page, url = served
    kept = Client(url, verbose=False, analytics_enabled=False)
    client = Client(url, verbose=False, analytics_enabled=False)
    for one in (kept, client):
        with pytest.raises(Exception, match="budget must be"):
            one.predict(-5, False, api_name="/tune")
    with pytest.raises(Exception, match="budget must be"):
        client.predict(handle_file(str(PORTRAITS[0])), None, -5, "0", True, api_name="/edit")
    known = (page.state_holder.session_data, page.state_holder.time_last_used)
    assert all({kept.session_hash, client.session_hash} <= set(table) for table in known)
    client.close()
    queue = page._queue
    wait_until(lambda: client.session_hash not in page.state_holder.session_data)
    assert client.session_hash not in str([*known, dict(queue.pending_messages_per_session)])
    assert client.session_hash not in str([queue.pending_event_ids_session, queue.event_analytics])
    wait_until(lambda: not left(folder))
    time.sleep(2 * CHECKS_EVERY)
    assert all(kept.session_hash in table for table in known)
    kept.close()
