"""The first tab: photo in, slider, picture out."""

import csv

import gradio as gr

from agedit import AgeEditError
from agedit.paths import portraits_folder
from agedit.photo import encode_photo
from agedit.reports.journey import journey, strip, write_gif, write_mp4
from ui.common import ONE, QUIET, Slider, budget_slider, said, said_in_turns, untouched
from ui.service import PATIENCE, Visit
from ui.words import plainly, say, t

PORTRAITS = portraits_folder()
FIRST_YEARS = 20  # a new photo shows an edit at once
CHILD = 12  # apparent age below which a face would grow in other ways than the networks draw


def credits():
    return list(csv.DictReader((PORTRAITS / "CREDITS.csv").open()))


def beyond_model(age, years, reach):
    """Which of `words` says what the networks cannot do for an apparent age and these years, None if they can. reach: see `Weights.reach`."""
    low, high = reach
    if not low <= years <= high:
        return "no_younger" if years < low else "child_end" if age < CHILD else "no_older"
    return "child" if age < CHILD and years > 0 else None


def build(service, visit):
    """Lay out the tab inside a gr.Tab. service: () -> Service. visit: gr.State of a Visit.

    Returns {"years", "who"}: what the other tabs read, and {"load"}: what to do when the page opens.
    """
    portraits = [str(PORTRAITS / row["file"]) for row in credits()]
    gallery = gr.Gallery(
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
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=260):
            photo = gr.Image(
                label=t("photo"),
                type="filepath",
                image_mode=None,
                sources=["upload", "webcam", "clipboard"],
                height=300,
                elem_id="photo",
                buttons=[],
            )
            photo.preprocess = untouched(PORTRAITS)
            gr.Markdown(t("examples"), elem_id="hint")
        with gr.Column(scale=3, min_width=300):
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
            budget = budget_slider("budget")
            download = gr.DownloadButton(
                t("download"), interactive=False, elem_id="download", variant="primary"
            )
            with gr.Accordion(t("journey"), open=False, elem_id="journey"):
                with gr.Row():
                    make = gr.Button(t("journey_make"), elem_id="make", size="sm")
                    cancel = gr.Button(t("cancel"), elem_id="cancel", size="sm", interactive=False)
                film = gr.Image(
                    show_label=False, interactive=False, visible=False, elem_id="film", buttons=["fullscreen"]
                )
                with gr.Row():
                    files = [
                        gr.DownloadButton(t(k), size="sm", interactive=False, elem_id=f"save-{k}")
                        for k in ("strip", "gif", "mp4")
                    ]
            with gr.Accordion(t("advanced"), open=False):
                strict = gr.Checkbox(False, label=t("strict"), elem_id="strict")
                mark = gr.Checkbox(True, label=t("mark"), elem_id="mark")

    def show(visit, budget, who, view, strict, full, request):
        """(result, beside, line, years): what an edit puts on the page; the slider says which age it shows."""
        view = "face" if strict else view
        shown, face = visit.edit(budget, view, strict, who), visit.faces(who)[0]
        (r, c), choice = shown["submodel"], shown["choice"]
        text = say(request, "ran", r=r, c=c, ms=shown["ms"])
        notes = ""
        if not choice["fits"]:
            notes += " " + say(request, "nothing_fits", budget=budget)
        if shown["waiting"] > 0:
            notes += " " + say(request, "busy", others=shown["waiting"])
        if shown["drift"] != 1.0:
            slower = shown["drift"] > 1
            notes += " " + say(
                request,
                "drifted",
                times=shown["drift"] if slower else 1 / shown["drift"],
                direction=say(request, "slower" if slower else "faster"),
            )
        if budget >= PATIENCE:
            text, notes = (
                say(request, "ran_best", ran=visit.ran, best=text),
                visit.notes + (notes if notes not in visit.notes else ""),
            )
        else:
            visit.ran, visit.notes, visit.submodel = text, notes, (r, c)
        with visit.service.lock:
            if full:
                reading = visit.editor.read(shown["result"], face)
                before, after = reading["age_before"], reading["age_after"]
                text = say(request, "identity", identity=reading["identity"], ran=text)
            else:  # while dragging, the age alone
                before, after = visit.editor.prepare(face).age, visit.editor.age(shown["result"], face)
        ends = beyond_model(before, visit.years.get(face, 0), visit.service.engine.weights.reach(before))
        if ends:
            notes += " " + say(request, ends)
        text += notes
        ages = gr.update(info=say(request, "looks", before=before, after=after))
        if view == "beside":
            return gr.update(visible=False), gr.update(value=shown["after"], visible=True), text, ages
        return (
            gr.update(value=(shown["before"], shown["after"]), visible=True),
            gr.update(visible=False),
            text,
            ages,
        )

    @said
    def limits():
        """The slider ends where the calibration does."""
        low, high = service().engine.weights.years_range
        return gr.update(minimum=low, maximum=high)

    @said
    def open_photo(path, years, budget, view, strict, request: gr.Request):
        if path is None:
            return (
                None,
                None,
                gr.update(visible=False),
                "",
                gr.update(info=""),
                gr.update(choices=[], value=None, visible=False),
                gr.update(interactive=False),
            )
        service().sessions.uploaded(request.session_hash, path)
        visit = Visit(service(), path)
        service().sessions.shows(request.session_hash, visit)
        visit.ask(years, None)
        count = len(visit.editor.faces)
        people = [(say(request, "everyone"), -1)] + [
            (say(request, "face", number=k + 1), k) for k in range(count)
        ]
        pictures = show(visit, budget, None, view, strict, True, request)
        visit.done = (years, budget, None, view, strict)
        return (
            visit,
            *pictures,
            gr.update(
                choices=people if count > 1 else [], value=-1 if count > 1 else None, visible=count > 1
            ),
            gr.update(interactive=False),
        )

    @said
    def preview(visit, years, budget, who, view, strict, request: gr.Request):
        # a preview that waited while the slider was let go must not replace the full result
        if visit is None or visit.done == (years, budget, who, view, strict):
            return [gr.skip()] * 4
        visit.ask(years, who)
        visit.done = None
        return show(visit, budget, who, view, strict, False, request)

    @said
    def finish(visit, years, budget, who, view, strict, request: gr.Request):
        if visit is None:
            return gr.skip(), gr.skip(), gr.skip(), say(request, "choose_first"), gr.skip(), gr.skip()
        visit.ask(years, who)
        visit.done = (years, budget, who, view, strict)
        # giving the visit back renews its time to live; the download waits for its own picture
        return visit, *show(visit, budget, who, view, strict, True, request), gr.update(interactive=False)

    @said
    def refine(visit, years, budget, who, view, strict, request: gr.Request):
        """The budget is for dragging; at rest the best picture follows, unless the slider has moved on."""
        if visit is None or visit.done != (years, budget, who, view, strict):
            return [gr.skip()] * 4
        best = visit.choose(PATIENCE, strict)["submodel"]
        if (best["r"], best["c"]) == visit.submodel:
            return [gr.skip()] * 4
        return show(visit, PATIENCE, who, view, strict, True, request)

    @said
    def switch(visit, years, budget, who, view, strict, request: gr.Request):
        """Each face keeps its own age: the slider goes to that of the face that was picked, and nothing else changes."""
        if visit is None:
            return [gr.skip()] * 5
        years = visit.years.get(visit.faces(who)[0], years)
        visit.done = (years, budget, who, view, strict)
        *shown, ages = show(visit, budget, who, view, strict, True, request)
        return *shown, ages | {"value": years}, gr.update(interactive=False)

    def tap(visit, event: gr.SelectData):
        """A tap on the photo picks the face there."""
        return gr.skip() if visit is None or len(visit.editor.faces) < 2 else visit.face_at(*event.index)

    @said
    def renew_download(visit, budget, mark):
        return gr.skip() if visit is None else gr.update(value=visit.download(budget, mark), interactive=True)

    @said_in_turns
    def travel(visit, budget, who, request: gr.Request, progress=gr.Progress()):
        if visit is None:
            raise gr.Error(say(request, "choose_first"), print_exception=False)
        choice, face, frames = visit.service.choose(budget), visit.faces(who)[0], []
        steps = journey(visit.editor, face, (choice["submodel"]["r"], choice["submodel"]["c"]))
        while True:
            with visit.service.lock:
                step = next(steps, None)
            if step is None:
                break
            done, total, at, crop = step
            frames.append((at, crop))
            progress((done, total), desc=say(request, "drawing", done=done, all=total))
            # a function that yields can be cancelled where it does
            yield gr.skip(), *[gr.update(interactive=False)] * 3, gr.update(interactive=True)
        pictures = [crop for _, crop in frames]
        paths = [
            visit.write(encode_photo(strip(frames), "PNG", True), "journey.png"),
            visit.write(b"", "journey.gif"),
            visit.write(b"", "journey.mp4"),
        ]
        write_gif(paths[1], pictures)
        try:
            write_mp4(paths[2], pictures)
        except AgeEditError as error:
            gr.Warning(plainly(request, str(error)))
            paths[2] = None
        yield (
            gr.update(value=paths[0], visible=True),
            *[gr.update(value=p, interactive=p is not None) for p in paths],
            gr.update(interactive=False),
        )

    def forget_journey():
        """Another photo: the strip of the one before goes."""
        return gr.update(value=None, visible=False), *[gr.update(interactive=False)] * 3

    inputs, outputs = [visit, years, budget, who, view, strict], [result, beside, line, years]
    better = dict(fn=refine, inputs=inputs, outputs=outputs, **QUIET, **ONE)
    renew = dict(fn=renew_download, inputs=[visit, budget, mark], outputs=download, **QUIET, **ONE)
    photo.change(
        open_photo,
        [photo, years, budget, view, strict],
        [visit, *outputs, who, download],
        show_progress="minimal",
        show_progress_on=[result],
        api_visibility="private",
        **ONE,
    ).then(**better).then(**renew).then(forget_journey, None, [film, *files], **QUIET)
    gallery.select(_picked(portraits), None, photo, api_visibility="private")
    years.input(preview, inputs, outputs, trigger_mode="always_last", **QUIET, **ONE)
    who.input(switch, inputs, [*outputs, download], **QUIET, **ONE).then(**better).then(**renew)
    photo.select(tap, visit, who, **QUIET, **ONE).then(
        switch, inputs, [*outputs, download], **QUIET, **ONE
    ).then(**better).then(**renew)
    for event in (years.release, budget.release, view.input, strict.input):
        event(finish, inputs, [visit, *outputs, download], trigger_mode="always_last", **QUIET, **ONE).then(
            **better
        ).then(**renew)
    mark.input(lambda: gr.update(interactive=False), None, download, **QUIET).then(**renew)
    trip = make.click(
        travel,
        [visit, budget, who],
        [film, *files, cancel],
        show_progress_on=[film],
        api_visibility="private",
    )
    cancel.click(lambda: gr.update(interactive=False), None, cancel, cancels=[trip], **QUIET)
    return {"years": years, "who": who, "load": (limits, None, years)}


def _picked(portraits):
    def pick(event: gr.SelectData):
        return portraits[event.index]

    return pick
