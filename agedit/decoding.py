"""Decoding picture files: the formats that we name, within limits, a few rows at a time.

This runs in a process of its own (`agedit.decoder`), because no decoder can be stopped from outside
otherwise, and so that a decoder that crashes or wants all memory takes nothing else down. It imports little,
to start quickly.
"""

import faulthandler
import io
import json
import os
import stat
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from PIL import (
    AvifImagePlugin,  # noqa: F401  importing a plugin registers it, and spares Pillow the import of all
    Image,
    ImageCms,
    ImageFile,
    JpegImagePlugin,
    MpoImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_PIXELS = 50_000_000
JPEG_SCAN = b"\xff\xda"  # cannot occur within a scan's data
MOST_SCANS = 100  # encoders write some ten for a progressive JPEG
MAX_RATIO = 40  # longer to shorter side; the longest panoramas that cameras and stitchers make have some 30
CPU_SECONDS = 30  # of a processor, however busy; a picture of 50 megapixels takes 1 to 10 s on a slow core
SECONDS = 120.0  # by the clock, where the system cannot count the former, and for files that do not come
MEMORY = 850_000_000  # bytes that the decoding process may allocate; 50 megapixels take 0.6e9 at most
IDLE = 10.0  # seconds after which a decoding process without work ends

PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")  # MPO comes with JPEG
KNOWN_FORMATS = (*PILLOW_FORMATS, "MPO", "HEIF")
HEIF_BRANDS = (
    b"heic",
    b"heix",
    b"heim",
    b"heis",
    b"hevc",
    b"hevx",
    b"hevm",
    b"hevs",
    b"mif1",
    b"msf1",
    b"mif2",
)
ORIENTATION = 0x0112
TIFF_SHORT = 3
LOGARITHMIC = (34676, 34677)  # compressions of TIFF for colours in fractions, 16 or 24 bit a pixel
SUBFILE_TYPE = 254
REDUCED_OR_MASK = 0b101  # a smaller copy of another page, or its transparency mask
PAGES_LOOKED_AT = 20
STRIP_PIXELS = 1 << 20
LARGE_WEBP = 16_000_000  # pixels over which Pillow's five copies of a WebP are too many

Strips = Iterator[bytes]


class RefusedError(Exception):
    """Why a picture is not read: a key of `agedit.photo.REASONS` and what its sentence needs."""

    def __init__(self, reason: str, **values: Any) -> None:
        super().__init__(reason)
        self.reason = reason
        self.values = values


@dataclass(frozen=True)
class Header:
    """What is known of a decoded picture before its rows come.

    width, height: pixels as stored, before the EXIF turn. channels: 3, or 4 with straight alpha.
    orientation: EXIF, 1 to 8. format: Pillow's name. tables, subsampling: a JPEG's own, else None.
    """

    width: int
    height: int
    channels: int
    orientation: int
    format: str
    tables: list[list[int]] | None = None
    subsampling: int | None = None


def check_size(width: int, height: int) -> None:
    """Raises RefusedError for more pixels than MAX_PIXELS, and for shapes that no photo has."""
    if width < 1 or height < 1:
        raise RefusedError("damaged")
    if width * height > MAX_PIXELS:
        raise RefusedError("pixels", megapixels=width * height / 1e6)
    if max(width, height) > MAX_RATIO * min(width, height):
        raise RefusedError("slim", width=width, height=height)


def decode(source: str | bytes | Image.Image) -> tuple[Header, Strips]:
    """Open and decode a picture.

    Args:
        source: path, file content, or an image that somebody else opened.

    Returns:
        (header, strips): strips are bytes of whole rows, `header.channels` bytes a pixel, sRGB, top to
        bottom.

    Raises:
        RefusedError: the reason. Nothing else.
    """
    with _plain_reasons():
        header, strips = _decode(source)
    return header, _with_plain_reasons(strips)


@contextmanager
def _plain_reasons() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of metadata that it mends
            yield
    except RefusedError:
        raise
    except UnidentifiedImageError:
        raise RefusedError("unknown") from None
    except Image.DecompressionBombError:
        raise RefusedError("pixels", megapixels=None) from None
    except MemoryError:
        raise RefusedError("memory") from None
    except Exception:  # decoders raise what they like on damaged files
        raise RefusedError("damaged") from None


def _with_plain_reasons(strips: Strips) -> Strips:
    with _plain_reasons():
        yield from strips


def _decode(source: str | bytes | Image.Image) -> tuple[Header, Strips]:
    if isinstance(source, Image.Image):
        if isinstance(source, ImageFile.ImageFile) and source.format not in KNOWN_FORMATS:
            raise RefusedError("unknown")
        image = source
    else:
        file = io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb")
        try:
            image = _open(file)
        except UnidentifiedImageError:
            return _decode_deep_tiff(file, source)
    check_size(*image.size)
    if not isinstance(source, Image.Image):
        _refuse_several_pictures(image, source)
        if image.format == "WEBP" and image.width * image.height > LARGE_WEBP:
            profile, turn = image.info.get("icc_profile"), _orientation(image)
            image.close()
            del image  # before the next decoder wants memory
            return _decode_large_webp(source, profile, turn)
    image.load()
    check_size(*image.size)  # some headers promise less than the data holds
    return _header(image), _strips(image)


def _open(file: IO[bytes]) -> Image.Image:
    start = file.read(12)
    file.seek(0)
    if start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS:
        from pillow_heif.as_plugin import HeifImageFile

        # opened directly: registering it would change Pillow for the program around us
        return HeifImageFile(file)
    return Image.open(file, formats=PILLOW_FORMATS)


def _refuse_several_pictures(image: Image.Image, source: str | bytes) -> None:
    """Raise RefusedError for animations and documents; further pictures in MPO and HEIC are a phone's."""
    if image.format == "TIFF":
        _refuse_pages(source)
    elif image.format in ("GIF", "WEBP", "PNG", "AVIF") and getattr(image, "is_animated", False):
        raise RefusedError("animated")
    elif image.format in ("JPEG", "MPO"):
        _refuse_scans(source)


def _refuse_scans(source: str | bytes) -> None:
    """Raise RefusedError for a JPEG of many scans: a few bytes each, and a pass over all pixels."""
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    if content.count(JPEG_SCAN) > MOST_SCANS:
        raise RefusedError("slow")


def _refuse_pages(source: str | bytes) -> None:
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with Image.open(file, formats=("TIFF",)) as pages:
        assert isinstance(pages, TiffImagePlugin.TiffImageFile)
        for page in range(1, PAGES_LOOKED_AT):
            try:
                pages.seek(page)
            except Exception:  # the end, or a damaged page: the first one may be fine
                return
            kind = pages.tag_v2.get(SUBFILE_TYPE, 0)
            if not (isinstance(kind, int) and kind & REDUCED_OR_MASK):
                raise RefusedError("pages")


def _header(image: Image.Image) -> Header:
    tables, subsampling = None, None
    if image.format in ("JPEG", "MPO") and isinstance(image, JpegImagePlugin.JpegImageFile):
        tables = [list(map(int, image.quantization[k])) for k in sorted(image.quantization)]
        subsampling = JpegImagePlugin.get_sampling(image) if image.mode == "RGB" else 0
    channels = 4 if image.has_transparency_data else 3
    width, height = image.size
    return Header(width, height, channels, _orientation(image), image.format or "", tables, subsampling)


def _orientation(image: Image.Image) -> int:
    if image.format == "HEIF":
        return 1  # libheif has turned it
    try:
        turn = int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF: the photo itself may be fine
        return 1
    return turn if 1 <= turn <= 8 else 1


def _strips(image: Image.Image) -> Strips:
    """Rows of an image of any mode in sRGB, with alpha where it has some."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_strips(image)
    return _plain_strips(image)


def _boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        yield 0, top, width, min(height, top + rows)


def _plain_strips(image: Image.Image) -> Strips:
    alpha = image.has_transparency_data
    to_srgb = _to_srgb(image)
    for box in _boxes(*image.size):
        strip = image.crop(box)
        if not alpha:
            yield to_srgb(strip).tobytes()
            continue
        strip = strip.convert("RGBA")
        colours = to_srgb(strip.convert("RGB"))
        colours.putalpha(strip.getchannel("A"))
        yield colours.tobytes()


def _to_srgb(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """What makes sRGB of strips of an image, by its colour profile if that can be used."""
    profile = image.info.get("icc_profile")
    if image.mode == "LAB":
        return _through(ImageCms.createProfile("LAB"), "LAB")
    if profile:
        try:  # a broken profile, or one of another kind of picture, is no reason to refuse the photo
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            profile_data: Any = source.profile  # Pillow's stubs take it for a file
            mode = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}[profile_data.xcolor_space]
            if (mode == "CMYK") != (image.mode == "CMYK"):
                raise ValueError("this profile is of another kind of picture")
            return _through(source, mode)
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError):
            pass
    return lambda strip: strip.convert("RGB")


def _through(source: Any, mode: str) -> Callable[[Image.Image], Image.Image]:
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")

    def convert(strip: Image.Image) -> Image.Image:
        out = ImageCms.applyTransform(strip if strip.mode == mode else strip.convert(mode), transform)
        assert out is not None
        return out

    return convert


def _deep_strips(image: Image.Image) -> Strips:
    """Rows of grey pictures of 16 and 32 bit and of fractions."""
    import numpy as np

    def values(box: tuple[int, int, int, int]) -> "npt.NDArray[Any]":
        part = np.asarray(image.crop(box))
        return part.view(np.uint32) if unsigned else part

    tags = getattr(image, "tag_v2", {})
    unsigned = image.mode == "I" and tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0] == 1 and bool(tags)
    to_8_bit = _Scale([_top(values(box)) for box in _boxes(*image.size)], image.mode == "F")
    negative = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0  # white is zero
    clear = image.info.get("transparency") if image.has_transparency_data else None
    to_srgb = _to_srgb(image)
    for box in _boxes(*image.size):
        part = values(box)
        grey = to_8_bit(part)
        strip = to_srgb(Image.fromarray(255 - grey if negative else grey))
        if image.has_transparency_data:
            strip.putalpha(Image.fromarray(np.where(part == clear, 0, 255).astype(np.uint8)))
        yield strip.tobytes()


def _top(values: "npt.NDArray[Any]") -> float:
    import numpy as np

    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
    return float(values.max(initial=0))


class _Scale:
    """From a picture's own numbers to 0..255: its white is the least usual one that no number passes."""

    def __init__(self, tops: list[float], fractions: bool) -> None:
        top = max(tops, default=0.0)
        # a little over white is left by filters; whole numbers up to 255 are an 8-bit picture
        whites = ([1.0] if fractions and top <= 2.0 else []) + [255.0, 65535.0, 2.0**31 - 1, 2.0**32 - 1]
        self.white = next((white for white in whites if top <= white or white == 1.0), top)

    def __call__(self, values: "npt.NDArray[Any]") -> "npt.NDArray[np.uint8]":
        import numpy as np

        if values.dtype == np.uint8:
            return values
        scaled = np.nan_to_num(values.astype(np.float64)) * (255.0 / self.white)
        return np.clip(scaled + 0.5, 0, 255).astype(np.uint8)


def _decode_deep_tiff(file: IO[bytes], source: str | bytes | bytearray) -> tuple[Header, Strips]:
    """Colour TIFF of 32 bit and of fractions, which Pillow does not know: OpenCV does."""
    file.seek(0)
    start = file.read(8)
    if start[:4] not in (b"II*\0", b"MM\0*"):
        raise RefusedError("unknown")
    tags = TiffImagePlugin.ImageFileDirectory_v2(start)
    file.seek(tags.next)
    tags.load(file)
    width = tags.get(TiffImagePlugin.IMAGEWIDTH, 0)
    height = tags.get(TiffImagePlugin.IMAGELENGTH, 0)
    is_deep = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) >= 32
    if not (is_deep or tags.get(TiffImagePlugin.COMPRESSION) in LOGARITHMIC):
        raise RefusedError("unknown")
    check_size(int(width), int(height))
    turn = tags.get(ORIENTATION, 1)
    if turn in range(5, 9):  # OpenCV turns a TIFF itself, but for these, at which it stumbles
        source = _untold_of_turn(file)
    else:
        turn = 1
    values = _by_opencv(source)
    header = Header(values.shape[1], values.shape[0], values.shape[2], turn, "TIFF")
    return header, _colour_strips(values, tags.get(TiffImagePlugin.ICCPROFILE))


def _untold_of_turn(file: IO[bytes]) -> bytearray:
    """The content of a TIFF, whose first page says that it is stored upright."""
    content = bytearray(file.seek(0, io.SEEK_END))
    file.seek(0)
    file.readinto(content)  # type: ignore[attr-defined]
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from(f"{order}H", content, entry)[0] == ORIENTATION:
            struct.pack_into(f"{order}HHIHH", content, entry, ORIENTATION, TIFF_SHORT, 1, 1, 0)
    return content


def _decode_large_webp(source: str | bytes, profile: bytes | None, turn: int) -> tuple[Header, Strips]:
    values = _by_opencv(source)
    header = Header(values.shape[1], values.shape[0], values.shape[2], turn, "WEBP")
    return header, _colour_strips(values, profile)


def _by_opencv(source: str | bytes | bytearray) -> "npt.NDArray[Any]":
    """BGR or BGRA numbers of any kind, shape (H, W, 3 or 4)."""
    os.environ.setdefault(
        "OPENCV_IMGCODECS_WEBP_MAX_FILE_SIZE", str(MEMORY)
    )  # else 64 MiB; read when it is loaded
    import cv2
    import numpy as np

    try:
        if isinstance(source, (bytes, bytearray)):
            values = cv2.imdecode(np.frombuffer(source, np.uint8), cv2.IMREAD_UNCHANGED)
        else:
            values = cv2.imread(source, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise RefusedError("memory" if error.code == cv2.Error.StsNoMem else "damaged") from None
    if values is None or values.ndim != 3 or values.shape[2] not in (3, 4):
        raise RefusedError("damaged")
    check_size(values.shape[1], values.shape[0])
    return values


def _colour_strips(values: "npt.NDArray[Any]", profile: bytes | None) -> Strips:
    """Rows of BGR or BGRA numbers of any kind."""
    import numpy as np

    height, width, channels = values.shape
    to_8_bit = _Scale(
        [_top(values[top:bottom]) for _, top, _, bottom in _boxes(width, height)], values.dtype.kind == "f"
    )
    like = Image.new("RGB", (1, 1))
    if profile:
        like.info["icc_profile"] = profile
    to_srgb = _to_srgb(like)
    for _, top, _, bottom in _boxes(width, height):
        part = to_8_bit(values[top:bottom])
        strip = to_srgb(Image.fromarray(np.ascontiguousarray(part[..., 2::-1])))
        if channels == 4:
            strip.putalpha(Image.fromarray(np.ascontiguousarray(part[..., 3])))
        yield strip.tobytes()


# The process. A message is its length in 4 bytes and JSON. A request may be followed by the file's content.
# An answer with a header is followed by strips, each its length and its bytes, then length 0, and one more
# message, which says whether all went well.


def send(pipe: IO[bytes], message: dict[str, Any]) -> None:
    """Write one message."""
    text = json.dumps(message).encode()
    pipe.write(struct.pack(">I", len(text)) + text)
    pipe.flush()


def receive(pipe: IO[bytes]) -> dict[str, Any]:
    """Read one message. Raises EOFError when the other side is gone."""
    start = pipe.read(4)
    if len(start) < 4:
        raise EOFError
    text = pipe.read(struct.unpack(">I", start)[0])
    return json.loads(text)


def _limit_process(memory: int) -> None:
    """No more memory than a photo needs, and no files written."""
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _limit_time(seconds: int) -> None:
    """The system ends this process (SIGXCPU) when the next picture has taken so much of a processor."""
    try:
        import resource
    except ImportError:  # Windows: the clock alone
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


def serve(memory: int = MEMORY, cpu_seconds: int = CPU_SECONDS, idle: float = IDLE) -> None:
    """Answer requests on stdin until it ends: {"path"} or {"bytes": count} and the content."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):  # a library that prints must not speak in our place
        os.dup2(nowhere, descriptor)
    sys.dont_write_bytecode = True
    _limit_process(memory)
    Image.MAX_IMAGE_PIXELS = None  # this process is ours alone, and `check_size` is stricter
    with open(os.devnull, "w") as silent:
        while True:
            # nothing of a photo stays in memory for long
            end = threading.Timer(idle, os._exit, [0])
            end.daemon = True
            end.start()
            try:
                request = receive(requests)
            except EOFError:
                os._exit(0)
            end.cancel()
            _limit_time(cpu_seconds)
            # the parent ends us sooner; this is for when it is gone. It works while a decoder holds the
            # interpreter.
            faulthandler.dump_traceback_later(SECONDS + 5, exit=True, file=silent)
            content = requests.read(request["bytes"]) if "bytes" in request else request["path"]
            _answer(answers, content)
            del content
            faulthandler.cancel_dump_traceback_later()


def _answer(answers: IO[bytes], source: str | bytes) -> None:
    try:
        header, strips = decode(source)
        send(answers, {"header": asdict(header)})
    except RefusedError as error:
        return send(answers, {"refused": error.reason, **error.values})
    end: dict[str, Any] = {"done": True}
    try:
        for strip in strips:
            answers.write(struct.pack(">I", len(strip)))
            answers.write(strip)
    except RefusedError as error:
        end = {"refused": error.reason, **error.values}
    answers.write(struct.pack(">I", 0))
    send(answers, end)


def is_file(path: str) -> bool:
    """Whether there is a file that can be read to its end: no folder, no pipe, no device."""
    return stat.S_ISREG(os.stat(path).st_mode)
