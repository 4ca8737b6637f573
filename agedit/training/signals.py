"""Stop a stage without losing what it has done."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

# What a stage that was stopped ends with.
STOPPED = "stopped; the same command goes on from here"


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Yields a callable that turns true after Ctrl-C or SIGTERM, so that a stage saves before it ends."""
    received: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)

    previous = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
