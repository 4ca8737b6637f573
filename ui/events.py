"""How the page's events are connected to their handlers, and which handlers wait for each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gradio.components import Component
from gradio.events import Dependency

Components = Component | Sequence[Component] | None
Listener = Callable[..., Dependency]
"""`button.click` and the like."""


@dataclass(frozen=True)
class Queue:
    """A queue of Gradio's own.

    Who waits in it is not told how long: it takes many at once, and they stand in a `Line` of ours.
    """

    name: str
    limit: int | None
    """Handlers at once; None for any number."""


EDIT = Queue("edit", 16)
KEYS = Queue("keys", 16)
DRAG = Queue("drag", None)
CLAIM = Queue("claim", None)
OPEN = Queue("open", 16)
SAVE = Queue("save", 2)
COMPARE = Queue("compare", 4)
PAINT = Queue("paint", 2)
JOURNEY = Queue("journey", 4)
TUNE = Queue("tune", 1)


def listen(
    event: Listener,
    handler: Callable[..., Any],
    inputs: Components = None,
    outputs: Components = None,
    queue: Queue | None = None,
    progress: Literal["full", "minimal", "hidden"] = "hidden",
    **options: Any,
) -> Dependency:
    """Call the handler at an event of the page. It is no endpoint for programs.

    Args:
        queue: None for one of the handler's own.
        options: of Gradio's event listeners, such as `trigger_mode`.
    """
    if queue is not None:
        options["concurrency_id"] = queue.name
        options["concurrency_limit"] = queue.limit
    return event(handler, inputs, outputs, show_progress=progress, api_visibility="private", **options)
