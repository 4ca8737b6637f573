"""The first tab: photo in, slider, picture out."""

import contextlib
import csv
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.events import Dependency

from agedit import AgeEditError
from agedit.paths import portraits_folder
from agedit.photo import encode_photo
from agedit.reports.journey import journey, strip, write_gif, write_mp4
from ui.common import QUIET, Slider, _message, budget_slider, said
from ui.files import Forgotten, sessions
from ui.line import CLAIM, EDIT, JOURNEY, OPEN, SAVE, Line
from ui.photos import Saved, Upload, ages_name
from ui.service import PATIENCE, Service, Visit
from ui.waiting import in_turn, until_served
from ui.words import plainly, say, t

PORTRAITS = portraits_folder()
FIRST_YEARS = 20  # a new photo shows an edit at once
CHILD = 12  # apparent age below which a face would grow in other ways than the networks draw
FILMS = ("strip", "gif", "mp4")


class PhotoInput(gr.Image):
    """Where a photo comes in. Handlers get an `Upload`; whether it is this visitor's, `Sessions.claim` knows."""

    is_template = True  # drawn by the front end's own image

    def preprocess(self, payload: Any) -> Any:
        return _upload(payload)


class PasteInput(gr.UploadButton):
    """Where a pasted photo comes in: an input that is there whether or not a photo is shown. Nobody sees it."""

    is_template = True

    def preprocess(self, payload: Any) -> Any:
        return _upload(payload)


class SaveButton(gr.DownloadButton):
    """A button that saves a file, a `Saved`, under another name than it has here."""

    is_template = True

    def preprocess(self, payload: Any) -> Any:
        return None

    def postprocess(self, value: Any) -> FileData | None:
        return None if value is None else FileData(path=value.path, orig_name=value.name)


def _upload(payload: Any) -> Upload | None:
    if payload is None or not payload.path:
        return None
    return Upload(payload.path, payload.orig_name or "")


def credits() -> list[dict[str, str]]:
    return list(csv.DictReader((PORTRAITS / "CREDITS.csv").open()))


def beyond_model(age: float, years: float, reach: tuple[float, float]) -> str | None:
    """Which of `words` says what the networks cannot do for an apparent age and these years, None if they can.

    reach: see `Weights.reach`.
    """
    low, high = reach
    if not low <= years <= high:
        return "no_younger" if years < low else "child_end" if age < CHILD else "no_older"
    return "child" if age < CHILD and years > 0 else None


def usable(visit: Visit | None) -> bool:
    """Whether there is a photo to edit."""
    return visit is not None and not visit.closed


def edits(tab: "Handlers") -> Line:
    return tab.service().edits


class Handlers:
    """What happens when a visitor does something on the tab. service: () -> Service.

    `visit` is the visitor's `Visit`, None before the first photo; `who` the face that was picked, None or -1 for all.
    """

    def __init__(self, service: Callable[[], Service]) -> None:
        self.service = service

    @said
    def limits(self) -> Any:
        """The slider ends where the calibration does."""
        low, high = self.service().engine.weights.years_range
        return gr.update(minimum=low, maximum=high)

    def claim(self, upload: Upload | None, request: gr.Request) -> None:
        """At once, however long the line is: an upload that nobody asks for is deleted soon."""
        if upload is not None and request.session_hash:
            with contextlib.suppress(AgeEditError):
                sessions.claim(request.session_hash, upload.path)

    def open_photo(
        self,
        upload: Upload | None,
        years: float,
        budget: float,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Iterator[Any]:
        """Yields (visit, photo, result, beside, line, years, who, png, jpeg, film, strip, gif, mp4)."""
        session = request.session_hash or ""
        nothing_waits = [gr.update(interactive=False)] * 2
        no_film = [gr.update(value=None, visible=False), *[gr.update(value=None, interactive=False)] * 3]
        cleared = [None, None, *self._no_picture(), *nothing_waits, *no_film]
        try:
            number = sessions.chooses(session)
            if upload is None:
                yield cleared
                return
            # what is shown of the photo before stays until the new one's edit is there, its downloads do not
            yield [None, *[gr.skip()] * 6, *nothing_waits, *no_film]
            path = upload.path if _is_portrait(upload.path) else str(sessions.claim(session, upload.path))
            service = self.service()
            visit = yield from self._opened(path, upload.name, request)
            if not sessions.shows(session, visit, number):
                return
            with service.edits.place() as place:
                for text in until_served(place, request):
                    yield self._sentence(text)
                visit.ask(years, None)
                pictures = self.show(visit, budget, None, view, strict, True, request)
                visit.done = (years, budget, None, view, strict)
            yield [visit, visit.before(), *pictures, self._people(visit, request), *nothing_waits, *no_film]
        except Forgotten:  # nobody is there, or another photo was chosen
            yield [gr.skip()] * len(cleared)
        except AgeEditError as error:
            sessions.drop(upload.path if upload else "")
            yield cleared
            raise _message(error) from None

    def _opened(self, path: str, name: str, request: gr.Request) -> Generator[Any, None, Visit]:
        """The visit of a photo; yields what `open_photo` yields while others' photos are read first."""
        service = self.service()
        visit = Visit(service, path, name, opened=False)
        try:
            with service.decoding.place() as place:
                for text in until_served(place, request):
                    yield self._sentence(text)
                photo_read = visit.read()
            visit.find_faces(photo_read)
        except BaseException:  # also when the page was closed and this is not asked to go on
            visit.delete()
            raise
        return visit

    def _no_picture(self) -> list[Any]:
        """(result, beside, line, years, who) without a photo."""
        return [
            gr.update(value=None, visible=True),
            gr.update(value=None, visible=False),
            "",
            gr.update(info=""),
            gr.update(choices=[], value=None, visible=False),
        ]

    def _sentence(self, text: str) -> list[Any]:
        """What `open_photo` yields when only the line under the picture changes."""
        return [*[gr.skip()] * 4, text, *[gr.skip()] * 8]

    def _people(self, visit: Visit, request: gr.Request) -> Any:
        count = len(visit.editor.faces)
        if count == 1:
            return gr.update(choices=[], value=None, visible=False)
        people = [(say(request, "face", number=k + 1), k) for k in range(count)]
        return gr.update(choices=[(say(request, "everyone"), -1), *people], value=-1, visible=True)

    def show(
        self,
        visit: Visit,
        budget: float,
        who: float | None,
        view: str,
        strict: bool,
        full: bool,
        request: gr.Request,
    ) -> tuple[Any, Any, str, Any]:
        """(result, beside, line, years): what an edit puts on the page; the slider says which age it shows."""
        view = "face" if strict else view
        with visit.using_it():
            face = visit.faces(who)[0]
            shown = visit.edit(budget, view, strict, who)
            text = self._what_ran(visit, shown, budget, request)
            with visit.service.lock:
                if full:
                    reading = visit.editor.read(shown["result"], face)
                    before, after = reading["age_before"], reading["age_after"]
                    text = say(request, "identity", identity=reading["identity"], ran=text)
                else:  # while dragging, the age alone
                    before = visit.editor.prepare(face).age
                    after = visit.editor.age(shown["result"], face)
        text += visit.notes if budget >= PATIENCE else self._notes(visit, shown, budget, request)
        ends = beyond_model(before, visit.years.get(face, 0), visit.service.engine.weights.reach(before))
        if ends:
            text += " " + say(request, ends)
        visit.line = text
        ages = gr.update(info=say(request, "looks", before=before, after=after))
        if view == "beside":
            return gr.update(visible=False), gr.update(value=shown["after"], visible=True), text, ages
        both = (shown["before"], shown["after"])
        return gr.update(value=both, visible=True), gr.update(visible=False), text, ages

    def _what_ran(self, visit: Visit, shown: dict[str, Any], budget: float, request: gr.Request) -> str:
        r, c = shown["submodel"]
        text = say(request, "ran", r=r, c=c, ms=shown["ms"])
        notes = self._notes(visit, shown, budget, request)
        if budget >= PATIENCE:
            if notes not in visit.notes:
                visit.notes += notes
            return say(request, "ran_best", ran=visit.ran, best=text)
        visit.ran = text
        visit.notes = notes
        visit.submodel = (r, c)
        return text

    def _notes(self, visit: Visit, shown: dict[str, Any], budget: float, request: gr.Request) -> str:
        """What the visitor should know about the device."""
        notes = ""
        if not shown["choice"]["fits"]:
            notes += " " + say(request, "nothing_fits", budget=budget)
        if shown["drift"] != 1.0:
            slower = shown["drift"] > 1
            times = shown["drift"] if slower else 1 / shown["drift"]
            direction = say(request, "slower" if slower else "faster")
            notes += " " + say(request, "drifted", times=times, direction=direction)
        return notes

    @in_turn(edits, outputs=4, sentence=2)
    def preview(
        self,
        visit: Visit | None,
        years: float,
        budget: float,
        who: float | None,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Any:
        """While the slider is dragged."""
        # a preview that waited while the slider was let go must not replace the full result
        if not usable(visit) or visit.done == (years, budget, who, view, strict):
            return [gr.skip()] * 4
        visit.ask(years, who)
        visit.done = None
        return self.show(visit, budget, who, view, strict, False, request)

    @in_turn(edits, outputs=6, sentence=2)
    def finish(
        self,
        visit: Visit | None,
        years: float,
        budget: float,
        who: float | None,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Any:
        """When the slider was let go; the downloads wait for their own pictures."""
        if not usable(visit):
            return gr.skip(), gr.skip(), say(request, "choose_first"), gr.skip(), gr.skip(), gr.skip()
        visit.ask(years, who)
        visit.done = (years, budget, who, view, strict)
        shown = self.show(visit, budget, who, view, strict, True, request)
        return *shown, gr.update(interactive=False), gr.update(interactive=False)

    @in_turn(edits, outputs=4, sentence=2)
    def refine(
        self,
        visit: Visit | None,
        years: float,
        budget: float,
        who: float | None,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Any:
        """The budget is for dragging; at rest the best picture follows, unless the slider has moved on."""
        if not usable(visit) or visit.done != (years, budget, who, view, strict):
            return [gr.skip()] * 4
        best = visit.choose(PATIENCE, strict)["submodel"]
        if (best["r"], best["c"]) == visit.submodel:
            return [gr.skip()] * 4
        return self.show(visit, PATIENCE, who, view, strict, True, request)

    @in_turn(edits, outputs=6, sentence=2)
    def switch(
        self,
        visit: Visit | None,
        years: float,
        budget: float,
        who: float | None,
        view: str,
        strict: bool,
        request: gr.Request,
    ) -> Any:
        """Each face keeps its own age: the slider goes to that of the face that was picked, and nothing else changes."""
        if not usable(visit):
            return [gr.skip()] * 6
        years = visit.years.get(visit.faces(who)[0], years)
        visit.done = (years, budget, who, view, strict)
        *shown, ages = self.show(visit, budget, who, view, strict, True, request)
        return *shown, ages | {"value": years}, gr.update(interactive=False), gr.update(interactive=False)

    @said
    def tap(self, visit: Visit | None, event: gr.SelectData) -> Any:
        """A tap on the photo picks the face there."""
        if not usable(visit) or len(visit.editor.faces) < 2:
            return gr.skip()
        return visit.face_at(*event.index)

    @said
    def renew_download(self, visit: Visit | None, budget: float, mark: bool) -> Any:
        """The files to save, unless the slider moves or has moved on: then its own end brings them."""
        unchanged = [gr.skip(), gr.skip()]
        if not usable(visit) or visit.done is None:
            return unchanged
        asked = visit.done
        try:
            files = visit.download(budget, mark)
        except Forgotten:
            return unchanged
        if visit.done != asked:
            return unchanged
        return [gr.update(value=file, interactive=True) for file in files]

    def travel(
        self,
        visit: Visit | None,
        budget: float,
        who: float | None,
        request: gr.Request,
    ) -> Iterator[Any]:
        """Yields (film, strip, gif, mp4, cancel, told). Another photo, or the end of the visit, ends it."""
        going_on = [gr.skip(), *[gr.update(interactive=False)] * 3, gr.update(interactive=True)]
        over = [*[gr.skip()] * 4, gr.update(interactive=False), ""]
        if not usable(visit):
            raise gr.Error(say(request, "choose_first"), print_exception=False)
        try:
            with self.service().journeys.place() as place:
                for text in until_served(place, request):
                    yield [*going_on, text]
                frames = []
                for done, total, at, crop in self._steps(visit, budget, who):
                    frames.append((at, crop))
                    # a function that yields can be cancelled where it does
                    yield [*going_on, say(request, "drawing", done=done, all=total)]
                strip_path, *files = self._films(visit, frames, request)
            yield [
                gr.update(value=strip_path, visible=True),
                *[gr.update(value=file, interactive=file is not None) for file in files],
                gr.update(interactive=False),
                "",
            ]
        except Forgotten:
            yield over
        except AgeEditError as error:
            yield over
            raise _message(error) from None

    def _steps(self, visit: Visit, budget: float, who: float | None) -> Iterator[Any]:
        choice = visit.service.choose(budget)["submodel"]
        steps = journey(visit.editor, visit.faces(who)[0], (choice["r"], choice["c"]))
        return visit.service.one_by_one(visit, steps)

    def _films(
        self, visit: Visit, frames: list[tuple[float, Any]], request: gr.Request
    ) -> tuple[str, Saved | None, Saved | None, Saved | None]:
        """The strip's path, and strip, GIF and MP4 to save; None for one that cannot be written here."""
        pictures = [crop for _, crop in frames]
        strip_path = visit.write(encode_photo(strip(frames), "PNG", True), "journey.png")
        files: list[Saved | None] = [Saved(strip_path, ages_name(visit.name, ".png"))]
        for ending, write in ((".gif", write_gif), (".mp4", write_mp4)):
            visit.check()
            path = visit.write(b"", f"journey{ending}")
            try:
                write(path, pictures)
            except OSError:
                Path(path).unlink(missing_ok=True)
                visit.check()
                raise AgeEditError("The film could not be written; free some space and try again.") from None
            except AgeEditError as error:
                gr.Warning(plainly(request, str(error)))
                files.append(None)
                continue
            files.append(Saved(path, ages_name(visit.name, ending)))
        return strip_path, files[0], files[1], files[2]


def _is_portrait(path: str) -> bool:
    return Path(path).parent == PORTRAITS and Path(path).name in {row["file"] for row in credits()}


@dataclass
class Widgets:
    """What is on the tab."""

    gallery: gr.Gallery
    photo: PhotoInput
    paste: PasteInput
    result: gr.ImageSlider
    beside: gr.Image
    years: Slider
    line: gr.Markdown
    who: gr.Radio
    view: gr.Radio
    budget: Slider
    png: SaveButton
    jpeg: SaveButton
    make: gr.Button
    cancel: gr.Button
    told: gr.Markdown
    film: gr.Image
    files: list[SaveButton]
    strict: gr.Checkbox
    mark: gr.Checkbox


def _gallery() -> gr.Gallery:
    portraits = [str(PORTRAITS / row["file"]) for row in credits()]
    return gr.Gallery(
        portraits,
        show_label=False,
        columns=len(portraits),
        height="auto",
        object_fit="cover",
        allow_preview=False,
        elem_id="examples",
        interactive=False,
        buttons=[],
    )


def _photo() -> tuple[PhotoInput, PasteInput]:
    photo = PhotoInput(
        label=t("photo"),
        type="filepath",
        image_mode=None,
        sources=["upload", "webcam", "clipboard"],
        webcam_options=gr.WebcamOptions(mirror=False),
        height=300,
        elem_id="photo",
        buttons=[],
    )
    with gr.Column(elem_id="paste", min_width=0):
        paste = PasteInput(t("photo"), type="filepath")
    gr.Markdown(t("examples"), elem_id="hint")
    return photo, paste


def _pictures() -> dict[str, Any]:
    """Everything under the result."""
    result = gr.ImageSlider(
        label=t("result"),
        format="png",
        interactive=False,
        elem_id="result",
        max_height=560,
        buttons=["fullscreen"],
    )
    beside = gr.Image(
        show_label=False, visible=False, interactive=False, elem_id="beside", buttons=["fullscreen"]
    )
    years = Slider(-40, 50, FIRST_YEARS, step=1, label=t("years"), elem_id="years", buttons=[])
    line = gr.Markdown("", elem_id="line")
    who = gr.Radio([], label=t("who"), visible=False, elem_id="who")
    with gr.Row(elem_id="views"):
        view = gr.Radio(
            [(t("view_photo"), "photo"), (t("view_face"), "face"), (t("view_beside"), "beside")],
            value="photo",
            show_label=False,
            container=False,
            elem_id="view",
            scale=3,
            min_width=300,
        )
        gr.Button(t("hold"), elem_id="hold", size="sm", scale=1, min_width=140)
    return {"result": result, "beside": beside, "years": years, "line": line, "who": who, "view": view}


def _saving() -> dict[str, Any]:
    with gr.Row(elem_id="downloads"):
        png = SaveButton(
            t("download"), interactive=False, elem_id="download", variant="primary", scale=3, min_width=200
        )
        jpeg = SaveButton(
            t("download_jpeg"), interactive=False, elem_id="download-jpeg", scale=2, min_width=120
        )
    with gr.Accordion(t("journey"), open=False, elem_id="journey"):
        with gr.Row():
            make = gr.Button(t("journey_make"), elem_id="make", size="sm")
            cancel = gr.Button(t("cancel"), elem_id="cancel", size="sm", interactive=False)
        told = gr.Markdown("", elem_id="told")
        film = gr.Image(
            show_label=False, interactive=False, visible=False, elem_id="film", buttons=["fullscreen"]
        )
        with gr.Row():
            files = [SaveButton(t(k), size="sm", interactive=False, elem_id=f"save-{k}") for k in FILMS]
    with gr.Accordion(t("advanced"), open=False):
        strict = gr.Checkbox(False, label=t("strict"), elem_id="strict")
        mark = gr.Checkbox(True, label=t("mark"), elem_id="mark")
    return {
        "png": png,
        "jpeg": jpeg,
        "make": make,
        "cancel": cancel,
        "told": told,
        "film": film,
        "files": files,
        "strict": strict,
        "mark": mark,
    }


def _lay_out() -> Widgets:
    gallery = _gallery()
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=260):
            photo, paste = _photo()
        with gr.Column(scale=3, min_width=300):
            pictures = _pictures()
            budget = budget_slider("budget")
            saving = _saving()
    return Widgets(gallery=gallery, photo=photo, paste=paste, budget=budget, **pictures, **saving)


def _connect(do: Handlers, visit: gr.State, on: Widgets) -> list[Dependency]:
    """What follows what. Returns the events that open a photo."""
    inputs = [visit, on.years, on.budget, on.who, on.view, on.strict]
    outputs = [on.result, on.beside, on.line, on.years]
    saves = [on.png, on.jpeg]

    def then_better(event: Any) -> Any:
        """The best picture at rest, then the files to save."""
        better = event.then(do.refine, inputs, outputs, **QUIET, **EDIT)
        return better.then(do.renew_download, [visit, on.budget, on.mark], saves, **QUIET, **SAVE)

    trip = on.make.click(
        do.travel,
        [visit, on.budget, on.who],
        [on.film, *on.files, on.cancel, on.told],
        **QUIET,
        **JOURNEY,
    )
    on.cancel.click(
        lambda: (gr.update(interactive=False), ""), None, [on.cancel, on.told], cancels=[trip], **QUIET
    )

    opens = dict(
        outputs=[visit, on.photo, *outputs, on.who, *saves, on.film, *on.files],
        show_progress="minimal",
        show_progress_on=[on.result],
        api_visibility="private",
        trigger_mode="multiple",
        **OPEN,
    )
    how = [on.years, on.budget, on.view, on.strict]

    def pick(
        years: float, budget: float, view: str, strict: bool, request: gr.Request, event: gr.SelectData
    ) -> Iterator[Any]:
        """A face of the gallery."""
        row = credits()[event.index]
        portrait = Upload(str(PORTRAITS / row["file"]), row["file"])
        yield from do.open_photo(portrait, years, budget, view, strict, request)

    opened = [
        on.photo.input(do.open_photo, [on.photo, *how], **opens),
        on.paste.upload(do.open_photo, [on.paste, *how], **opens),
        on.gallery.select(pick, how, **opens),
    ]
    for event in opened:
        then_better(event)
    on.photo.input(do.claim, on.photo, None, **QUIET, **CLAIM)
    on.paste.upload(do.claim, on.paste, None, **QUIET, **CLAIM)

    on.years.input(do.preview, inputs, outputs, trigger_mode="always_last", **QUIET, **EDIT)
    then_better(on.who.input(do.switch, inputs, [*outputs, *saves], **QUIET, **EDIT))
    tapped = on.photo.select(do.tap, visit, on.who, **QUIET, **EDIT)
    then_better(tapped.then(do.switch, inputs, [*outputs, *saves], **QUIET, **EDIT))
    for event in (on.years.release, on.budget.release, on.view.input, on.strict.input):
        then_better(event(do.finish, inputs, [*outputs, *saves], trigger_mode="always_last", **QUIET, **EDIT))
    unmarked = on.mark.input(lambda: [gr.update(interactive=False)] * 2, None, saves, **QUIET)
    unmarked.then(do.renew_download, [visit, on.budget, on.mark], saves, **QUIET, **SAVE)
    return opened


def build(service: Callable[[], Service], visit: gr.State) -> dict[str, Any]:
    """Lay out the tab inside a gr.Tab. service: () -> Service. visit: gr.State of a Visit.

    Returns {"years", "who"}: what the other tabs read, {"load"}: what to do when the page opens,
    and {"opened"}: the events after which another photo is there, or none.
    """
    do = Handlers(service)
    on = _lay_out()
    opened = _connect(do, visit, on)
    return {"years": on.years, "who": on.who, "load": (do.limits, None, on.years), "opened": opened}
