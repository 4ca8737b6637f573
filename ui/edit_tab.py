"""The first tab: photo in, slider, picture out."""

from collections.abc import Callable

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from ui.edit_files import Downloads, Journeys
from ui.edit_layout import Widgets, lay_out
from ui.edit_picture import PictureHandlers
from ui.events import CLAIM, DRAG, EDIT, JOURNEY, KEYS, OPEN, SAVE, Listener, listen
from ui.key_pictures import KeyPictures
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
        self.keys = KeyPictures(service)
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
        self._wire_saves()

    def _then_better(self, event: Dependency) -> None:
        """The best picture, then those that the slider is made of."""
        on = self.on
        better = listen(event.then, self.picture.refine, [self.visit, *on.asked()], on.shown(), EDIT)
        self._then_keys(better)

    def _then_keys(self, event: Dependency) -> None:
        on = self.on
        listen(event.then, self.keys.draw, [self.visit, *on.asked()], on.picture.keys, KEYS)

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
            self._opens(on.photo.upload, photo.open_photo, [on.photo, *asked]),
            self._opens(on.gallery.select, photo.pick, asked),
            self._opens(on.start.click, photo.start, [on.token, *asked]),
        ]
        for event in self.opened:
            self._then_better(event)
        listen(on.photo.upload, photo.claim, on.photo, None, CLAIM)

    def _opens(self, event: Listener, handler: Callable[..., object], inputs: list[Component]) -> Dependency:
        on = self.on
        outputs = [self.visit, *on.shown(), on.picture.who, on.picture.view, on.film.strip, *on.film.saves]
        return listen(event, handler, inputs, outputs, OPEN, trigger_mode="multiple")

    def _wire_picture(self) -> None:
        on = self.on
        picture = self.picture
        inputs = [self.visit, *on.asked()]
        listen(on.picture.years.input, picture.drag, None, None, DRAG, trigger_mode="once")
        self._then_keys(listen(on.picture.who.input, picture.switch, inputs, on.shown(), EDIT))
        events: list[Listener] = [
            on.picture.years.release,
            on.budget.release,
            on.picture.view.input,
            on.strict.input,
        ]
        for event in events:
            # not always_last: what waits would be asked with the face and the years of later on
            finished = listen(event, picture.finish, inputs, on.shown(), EDIT, trigger_mode="multiple")
            self._then_keys(finished)

    def _wire_saves(self) -> None:
        on = self.on
        asked = [self.visit, on.budget, on.mark]
        listen(on.saves.png.click, self.downloads.png, asked, on.saves.outbox, SAVE)
        listen(on.saves.jpeg.click, self.downloads.jpeg, asked, on.saves.outbox, SAVE)
