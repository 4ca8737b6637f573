"""The page: python app.py. A thin skin over `agedit`; importing it starts nothing."""
import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("GLOG_minloglevel", "3")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import csv
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import gradio as gr

from agedit import AgeEditError, AgeEditor, Engine, load_photo
from agedit.photo import encode_photo
from agedit.tune import Tuner

ROOT = Path(__file__).resolve().parent
PORTRAITS = ROOT / "assets" / "portraits"
SHOWN = 1024                     # longer side, in pixels, of what the page shows while the download stays full size
BUDGETS = (20, 1000, 150)        # ms: lowest, highest, default
FIRST_YEARS = 20                 # a new photo shows an edit at once
CSS = """
.gradio-container {max-width: 980px !important; margin: 0 auto !important}
#title h1 {font-size: 1.7rem; margin: .2rem 0 0} #title p {opacity: .75; margin: 0}
#hint p {opacity: .75; margin: 0; font-size: .92rem}
#line {min-height: 1.6rem; text-align: center} #line p {opacity: .8; font-size: .92rem; margin: 0}
#photo, #result {border-radius: 14px; overflow: hidden}
#examples {border-width: 0 !important; background: none; padding: 0; min-height: 0 !important; height: auto !important} #examples .grid-wrap {padding: 0; max-height: none; overflow: visible}
#examples .grid-container {gap: 6px; grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)) !important}
footer {display: none !important}
"""
# on a phone the result lies below the fold: bring it into view when a photo was opened
SHOW_RESULT = """() => { if (window.innerWidth <= 640 && document.querySelector('#result img'))
  document.querySelector('#result').scrollIntoView({behavior: 'smooth', block: 'start'}); }"""
# arrow keys move a slider without a pointer ever being let go: tell the listeners when the key is
KEYS = """() => document.addEventListener('keyup', e => e.target.matches && e.target.matches('#years input, #budget input')
  && e.target.dispatchEvent(new PointerEvent('pointerup', {bubbles: true})))"""


class Service:
    """One engine for all visitors; each visitor has a Visit of their own."""

    def __init__(self):
        self.engine = Engine()
        self.tuner = Tuner(self.engine)
        self.lock = threading.Lock()
        self.choices = {}

    def choose(self, budget, tell=None):
        """The tuned choice for a budget; a budget asked before answers at once."""
        with self.lock:
            if budget not in self.choices:
                self.choices[budget] = self.tuner.choose(budget, tell=tell)
            return self.choices[budget]


class Visit:
    """One visitor's photo: the editor, and the files that the page shows."""

    def __init__(self, service, path):
        self.service, self.editor = service, AgeEditor(service.engine)
        self.folder = tempfile.TemporaryDirectory(prefix="agedit-")
        self.editor.set_photo(load_photo(path))
        self.done = None                   # what the shown full result is of
        self.count, self.before = 0, self._write(self.editor.view(SHOWN), "JPEG", "before")

    def _write(self, rgb, format, name):
        path = Path(self.folder.name) / f"{name}.{format.lower()}"
        path.write_bytes(encode_photo(rgb, format))
        return str(path)

    def edit(self, years, budget, who, full):
        """((before, after), line): files of the shown size, and what ran."""
        choice = self.service.choose(budget)
        submodel = choice["submodel"]["r"], choice["submodel"]["c"]
        start = time.perf_counter()
        result = self.editor.edit(years, self._face(who), submodel, limit=SHOWN)
        self.count += 1
        after = self._write(result.picture, "JPEG", f"after-{self.count % 20}")
        spent = (time.perf_counter() - start) * 1e3
        line = f"{submodel[0]} px, c = {submodel[1]:g}, {spent:.0f} ms"
        if full:
            self.done = years, budget, who
            reading = self.editor.read(result, next(iter(result.years)))
            line = (f"Looks about **{reading['age_before']:.0f}** now, **{reading['age_after']:.0f}** here. "
                    f"Identity {reading['identity']:.2f}. Ran {line}.")
        if not choice["fits"]:
            line += f" Nothing on this device keeps {budget:g} ms; this is the quickest there is."
        return (self.before, after), line

    def download(self, years, budget, who):
        """Path of the edit at the photo's own resolution, PNG without EXIF."""
        choice = self.service.choose(budget)
        result = self.editor.edit(years, self._face(who), (choice["submodel"]["r"], choice["submodel"]["c"]))
        return self._write(result.picture, "PNG", f"agedit_{years:+.0f}_years")

    @staticmethod
    def _face(who):
        return 0 if not who else "all" if who == "Everyone" else int(who.split()[-1]) - 1

    def people(self):
        """Choices for whom to edit, empty for a photo of one person."""
        n = len(self.editor.faces)
        return ["Everyone"] + [f"Face {k + 1}" for k in range(n)] if n > 1 else []


def said(function):
    """AgeEditErrors become a message on the page; what was there stays."""
    def wrapped(*args):
        try:
            return function(*args)
        except AgeEditError as error:
            raise gr.Error(str(error), duration=12, print_exception=False) from None
    wrapped.__name__ = function.__name__
    return wrapped


def build(service=None):
    """The page as gr.Blocks. `service` is made on first use, so that building costs nothing."""
    box = [service]

    def get_service():
        if box[0] is None:
            box[0] = Service()
        return box[0]

    @said
    def limits():
        """The slider ends where the calibration does."""
        low, high = get_service().engine.weights.years_range
        return gr.update(minimum=low, maximum=high)

    @said
    def open_photo(path, years, budget):
        if path is None:
            return None, None, "", gr.update(choices=[], value=None, visible=False), gr.update(interactive=False)
        visit = Visit(get_service(), path)
        people = visit.people()
        who = people[0] if people else None
        pictures, line = visit.edit(years, budget, who, full=True)
        return (visit, pictures, line, gr.update(choices=people, value=who, visible=bool(people)),
                gr.update(value=visit.download(years, budget, who), interactive=True))

    @said
    def preview(visit, years, budget, who):
        # a preview that waited while the slider was let go must not replace the full result
        if visit is None or visit.done == (years, budget, who):
            return gr.skip(), gr.skip()
        return visit.edit(years, budget, who, full=False)

    @said
    def finish(visit, years, budget, who):
        if visit is None:
            return gr.skip(), gr.skip(), "Choose a photo first: upload one, use the camera, or click an example.", gr.skip()
        # giving the visit back renews its time to live; the download waits for its own picture
        return visit, *visit.edit(years, budget, who, full=True), gr.update(interactive=False)

    @said
    def renew_download(visit, years, budget, who):
        return gr.skip() if visit is None else gr.update(value=visit.download(years, budget, who), interactive=True)

    gr.set_static_paths([PORTRAITS])       # found wherever the app is started from
    rows = list(csv.DictReader((PORTRAITS / "CREDITS.csv").open()))
    portraits = [str(PORTRAITS / row["file"]) for row in rows]
    with gr.Blocks(title="AgeEdit", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        visit = gr.State(None, time_to_live=3600)
        gr.Markdown("# AgeEdit\nYour photo, older or younger. It never leaves this machine.", elem_id="title")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=260):
                photo = gr.Image(label="Your photo", type="filepath", image_mode=None, sources=["upload", "webcam", "clipboard"],
                                   height=300, elem_id="photo", buttons=[])
                # the file untouched: `agedit.load_photo` reads it and says plainly what is wrong with it
                photo.preprocess = lambda payload: None if payload is None else payload.path
                gr.Markdown("Or try one of these:", elem_id="hint")
                gallery = gr.Gallery(portraits, show_label=False, columns=3, height="auto", object_fit="cover",
                                     allow_preview=False, elem_id="examples", interactive=False, buttons=[])
            with gr.Column(scale=3, min_width=300):
                result = gr.ImageSlider(label="Before | after", format="png", interactive=False, elem_id="result",
                                        max_height=560, buttons=["fullscreen"])
                years = gr.Slider(-40, 50, FIRST_YEARS, step=1, label="Years younger or older", elem_id="years", buttons=[])
                line = gr.Markdown("", elem_id="line")
                who = gr.Radio([], label="Who", visible=False)
                budget = gr.Slider(*BUDGETS, step=10, label="How long may an edit take? (milliseconds)", elem_id="budget", buttons=[])
                download = gr.DownloadButton("Download at full size", interactive=False, elem_id="download")
        with gr.Accordion("About these pictures", open=False):
            gr.Markdown("Results are synthetic: a small network's guess, not a prediction. Use photos of people who agreed. "
                        "The networks were trained on research data and are for non-commercial use.\n\nExample portraits: "
                        + "; ".join(sorted({f"{row['credit']} ({row['licence']})" for row in rows})) + ".")
        one = {"concurrency_id": "edit", "concurrency_limit": 1}
        photo.change(open_photo, [photo, years, budget], [visit, result, line, who, download],
                              show_progress="minimal", show_progress_on=[result], api_name="open", **one).then(None, js=SHOW_RESULT)
        gallery.select(_picked(portraits), None, photo, api_visibility="private")
        inputs = [visit, years, budget, who]
        years.input(preview, inputs, [result, line], trigger_mode="always_last", show_progress="hidden",
                    api_visibility="private", **one)
        for event, name in ((years.release, "edit"), (budget.release, "budget"), (who.input, "who")):
            event(finish, inputs, [visit, result, line, download], show_progress="hidden", api_name=name, trigger_mode="always_last", **one) \
                .then(renew_download, inputs, download, show_progress="hidden", api_visibility="private", **one)
        page.load(limits, None, years, api_visibility="private")
    return page


def _picked(portraits):
    def pick(event: gr.SelectData):
        return portraits[event.index]
    return pick


def main():
    for name in ("SIGTERM", "SIGHUP"):         # end as Ctrl-C does, so that no visitor's photo stays on disk
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)
    try:
        service = Service()
    except AgeEditError as error:              # the page opens all the same, and says it on every request
        print(f"agedit: {error}", file=sys.stderr)
        service = None
    else:
        threading.Thread(target=said(service.choose), args=(BUDGETS[2],), daemon=True).start()
    font = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    build(service).queue(max_size=64).launch(
        server_name=os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"), css=CSS, js=KEYS, footer_links=[], run_history=False,
        theme=gr.themes.Default(font=font, font_mono=["ui-monospace", "monospace"], primary_hue="indigo"),
        max_file_size="60mb", strict_cors=True, enable_monitoring=False, share=False, show_error=False, pwa=False)


if __name__ == "__main__":
    main()
