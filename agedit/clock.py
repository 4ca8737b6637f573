"""Time as the clock tells it."""

import time


def milliseconds_since(start: float) -> float:
    """Milliseconds since `time.perf_counter()` was `start`."""
    return (time.perf_counter() - start) * 1e3
