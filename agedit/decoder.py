"""The decoding process as its parent sees it: started when needed, reused, ended when it hangs."""

import atexit
import errno
import functools
import os
import signal
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from agedit import decoding
from agedit.decoding import Header, RefusedError

PROGRAM = "from agedit.decoding import serve; serve()"
PROCESSES = 2  # photos decoded at the same time; others wait

Rows = npt.NDArray[np.uint8]


@dataclass
class Decoded:
    """A decoded picture as stored, not turned.

    colours: RGB uint8 (H, W, 3), sRGB, straight. alpha: uint8 (H, W), or None where everything is opaque.
    """

    header: Header
    colours: Rows
    alpha: Rows | None


class _GoneError(Exception):
    """The process ended before it had answered."""


class _Collector:
    """Puts rows, as they come, into arrays that are there from the start."""

    def __init__(self, header: Header) -> None:
        shape = header.height, header.width
        self.header = header
        self.colours = np.empty((*shape, 3), np.uint8)
        self.alpha = np.empty(shape, np.uint8) if header.channels == 4 else None
        self.row = 0

    def add(self, data: bytes | memoryview) -> None:
        rows = np.frombuffer(data, np.uint8).reshape(-1, self.header.width, self.header.channels)
        here = slice(self.row, self.row + len(rows))
        self.colours[here] = rows[..., :3]
        if self.alpha is not None:
            self.alpha[here] = rows[..., 3]
        self.row += len(rows)

    def finish(self) -> Decoded:
        if self.row != self.header.height:
            raise ValueError("some rows are missing")
        if self.alpha is not None and self.alpha.min() == 255:
            self.alpha = None
        return Decoded(self.header, self.colours, self.alpha)


EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM)
"""Errors of a machine that has nothing left: no reason to decode without limits, in this process."""


class _Process:
    """One decoding process."""

    def __init__(self) -> None:
        path = os.pathsep.join(os.path.abspath(p) for p in sys.path)
        threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")  # each would reserve memory
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path} | threads,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self.used = False

    def decode(self, source: str | bytes, seconds: float) -> Decoded:
        """Raises RefusedError, or _GoneError."""
        late = threading.Event()
        timer = threading.Timer(seconds, self._end_late, [late])
        timer.daemon = True
        timer.start()
        try:
            return self._ask(source)
        except (EOFError, OSError, ValueError, struct.error):
            if late.is_set() or self._ran_out_of_time():
                raise RefusedError("slow") from None
            raise _GoneError from None
        finally:
            timer.cancel()
            self.used = True

    def _ask(self, source: str | bytes) -> Decoded:
        requests, answers = self.process.stdin, self.process.stdout
        assert requests is not None and answers is not None
        if isinstance(source, bytes):
            decoding.send(requests, {"bytes": len(source)})
            requests.write(source)
            requests.flush()
        else:
            decoding.send(requests, {"path": source})
        collector = _Collector(Header(**_wanted(answers, "header")))
        while size := struct.unpack(">I", answers.read(4))[0]:
            collector.add(answers.read(size))
        _wanted(answers, "done")
        return collector.finish()

    def _end_late(self, late: threading.Event) -> None:
        late.set()
        self.process.kill()

    def _ran_out_of_time(self) -> bool:
        """Whether the system ended the process for `decoding.CPU_SECONDS`."""
        try:
            return self.process.wait(5) == -getattr(signal, "SIGXCPU", 0)
        except subprocess.TimeoutExpired:  # it lives, and said something that nobody understands
            return False

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # what was still to be sent has nowhere to go
                pass


def _wanted(answers: IO[bytes], key: str) -> Any:
    message = decoding.receive(answers)
    if "refused" in message:
        reason = message.pop("refused")
        raise RefusedError(reason, **message)
    return message[key]


class Decoder:
    """Hands photos to decoding processes, each of which is reused until it fails or was idle for a while."""

    def __init__(self, seconds: float = decoding.SECONDS) -> None:
        self.seconds = seconds
        self._free: list[_Process] = []
        self._gate = threading.Lock()
        self._slots = threading.BoundedSemaphore(PROCESSES)

    def decode(self, source: str | bytes) -> Decoded:
        """Decode a path or a file's content. Raises RefusedError."""
        with self._slots:
            process = self._take()
            if process is None:
                return decode_here(source)
            old = process.used
            try:
                return self._decode(process, source)
            except _GoneError:
                if not old:
                    raise RefusedError("damaged") from None
            try:  # it was idle, and ended just when it was asked
                return self._decode(_Process(), source)
            except _GoneError:
                raise RefusedError("damaged") from None

    def _decode(self, process: _Process, source: str | bytes) -> Decoded:
        healthy = False
        try:
            decoded = process.decode(source, self.seconds)
            healthy = True
        except RefusedError as error:
            healthy = error.reason not in ("slow", "memory")
            raise
        finally:
            if healthy:
                with self._gate:
                    self._free.append(process)
            else:
                process.end()
        return decoded

    def _take(self) -> _Process | None:
        """A process that lives, or None where none can be started."""
        with self._gate:
            while self._free:
                process = self._free.pop()
                if process.alive:
                    return process
                process.end()
        try:
            return _Process()
        except (
            OSError,
            TypeError,
        ) as error:  # a Python inside another program, or one that may not start any
            if getattr(error, "errno", None) in EXHAUSTED:
                raise RefusedError("memory") from None
            return None

    def close(self) -> None:
        """End the processes that wait for work."""
        with self._gate:
            for process in self._free:
                process.end()
            self._free.clear()


def decode_here(source: str | bytes | Image.Image) -> Decoded:
    """Decode in this process: an image that somebody opened, or where no other process can be started."""
    header, strips = decoding.decode(source)
    collector = _Collector(header)
    for strip in strips:
        collector.add(strip)
    return collector.finish()


@functools.lru_cache(maxsize=1)
def shared() -> Decoder:
    """The decoder of this program."""
    decoder = Decoder()
    atexit.register(decoder.close)
    return decoder
