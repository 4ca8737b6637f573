"""The first tab: photo in, slider, picture out."""

from collections.abc import Callable

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from ui.edit_files import Downloads, Journeys
from ui.edit_layout import Widgets, lay_out
from ui.edit_picture import PictureHandlers
from ui.events import CLAIM, EDIT, JOURNEY, OPEN, SAVE, Listener, listen
from ui.photo_opening import PhotoOpening
from ui.service import Service


class EditTab:
    """The tab; make it inside gr.Tab.

    Args:
        service: gives the one Service.
        visit: the visitor's `Visit`.
    """

    def __init__(self, service: Callable[[], Service], visit: gr.State) -> None:
        self.visit = visit
        self.picture = PictureHandlers(service)
        self.photo = PhotoOpening(service, self.picture)
        self.downloads = Downloads()
        self.journeys = Journeys(service)
        self.opened: list[Dependency] = []
        """The events after which another photo is there, or none."""
        self.on = self.build()
        self.wire()

    def build(self) -> Widgets:
        """What is on the tab."""
        return lay_out()

    def wire(self) -> None:
        """What follows what."""
        self._wire_journey()
        self._wire_photo()
        self._wire_picture()

    def _then_better(self, event: Dependency) -> None:
        """The best picture at rest, then the files to save."""
        on = self.on
        better = listen(event.then, self.picture.refine, [self.visit, *on.asked()], on.shown(), EDIT)
        self._then_files(better)

    def _then_files(self, event: Dependency) -> None:
        on = self.on
        listen(event.then, self.downloads.renew, [self.visit, on.budget, on.mark], on.saves, SAVE)

    def _wire_journey(self) -> None:
        on = self.on
        film = on.film
        asked = [self.visit, on.budget, on.picture.who]
        outputs = [film.strip, *film.saves, film.cancel, film.told]
        trip = listen(film.make.click, self.journeys.travel, asked, outputs, JOURNEY)
        listen(film.cancel.click, self.journeys.cancelled, None, [film.cancel, film.told], cancels=[trip])

    def _wire_photo(self) -> None:
        on = self.on
        asked = [on.picture.years, on.budget, on.picture.view, on.strict]
        photo = self.photo
        self.opened = [
            self._opens(on.photo.input, photo.open_photo, [on.photo, *asked]),
            self._opens(on.paste.upload, photo.open_photo, [on.paste, *asked]),
            self._opens(on.gallery.select, photo.pick, asked),
        ]
        for event in self.opened:
            self._then_better(event)
        listen(on.photo.input, photo.claim, on.photo, None, CLAIM)
        listen(on.paste.upload, photo.claim, on.paste, None, CLAIM)

    def _opens(self, event: Listener, handler: Callable[..., object], inputs: list[Component]) -> Dependency:
        on = self.on
        outputs = [self.visit, on.photo, *on.shown(), on.picture.who, *on.saves, on.film.strip]
        return listen(
            event,
            handler,
            inputs,
            [*outputs, *on.film.saves],
            OPEN,
            progress="minimal",
            show_progress_on=[on.picture.result],
            trigger_mode="multiple",
        )

    def _wire_picture(self) -> None:
        on = self.on
        picture = self.picture
        inputs = [self.visit, *on.asked()]
        outputs = [*on.shown(), *on.saves]
        listen(on.picture.years.input, picture.preview, inputs, on.shown(), EDIT, trigger_mode="always_last")
        self._then_better(listen(on.picture.who.input, picture.switch, inputs, outputs, EDIT))
        tapped = listen(on.photo.select, picture.tap, self.visit, on.picture.who, EDIT)
        self._then_better(listen(tapped.then, picture.switch, inputs, outputs, EDIT))
        events: list[Listener] = [
            on.picture.years.release,
            on.budget.release,
            on.picture.view.input,
            on.strict.input,
        ]
        for event in events:
            finished = listen(event, picture.finish, inputs, outputs, EDIT, trigger_mode="always_last")
            self._then_better(finished)
        unmarked = listen(on.mark.input, self.downloads.wait, None, on.saves)
        self._then_files(unmarked)
