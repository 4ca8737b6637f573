"""Malformed pictures, made from small valid ones, the same for the same seed.

`python tests/security/malformed.py` tries all.
"""

import io
import json
import random
import re
import struct
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SEED = 2028
SIZE = (64, 48)
BIT_FLIPS, TRUNCATIONS, LIES, CUTS, SPLICES = 14, 8, 10, 5, 3
DATA = Path(__file__).resolve().parent.parent / "data"

File = tuple[str, bytes]  # its name, and what is in it


def all_files(seed: int = SEED) -> Iterator[File]:
    """Every malformed file."""
    valid = list(valid_files())
    chance = random.Random(seed)
    for name, data in valid:
        yield name, data
        yield from _mutations(name, data, [other for _, other in valid], chance)
    yield from lying_headers()
    yield from chunk_bombs()
    yield from disguised_files()


def valid_files() -> Iterator[File]:
    """A small picture in every format and mode that is read, and animations."""
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3), np.uint8)
    rgb = Image.fromarray(noise)
    grey = noise[..., 0]
    frames = [rgb.copy(), rgb.rotate(90, expand=False)]
    recipes = [
        ("rgb.jpg", "JPEG", rgb, {}),
        ("progressive.jpg", "JPEG", rgb, {"progressive": True}),
        ("cmyk.jpg", "JPEG", rgb.convert("CMYK"), {}),
        ("grey.jpg", "JPEG", rgb.convert("L"), {}),
        ("two.mpo", "MPO", rgb, {"save_all": True, "append_images": frames[1:]}),
        ("rgb.png", "PNG", rgb, {}),
        ("rgba.png", "PNG", rgb.convert("RGBA"), {}),
        ("palette.png", "PNG", rgb.convert("P"), {"transparency": 3}),
        ("deep.png", "PNG", Image.fromarray(grey.astype(np.uint16) * 257), {}),
        ("moving.png", "PNG", rgb, {"save_all": True, "append_images": frames[1:]}),
        ("lossy.webp", "WEBP", rgb, {}),
        ("lossless.webp", "WEBP", rgb.convert("RGBA"), {"lossless": True}),
        ("moving.webp", "WEBP", rgb, {"save_all": True, "append_images": frames[1:]}),
        ("rgb.bmp", "BMP", rgb, {}),
        ("palette.bmp", "BMP", rgb.convert("P"), {}),
        ("plain.tif", "TIFF", rgb, {}),
        ("lzw.tif", "TIFF", rgb, {"compression": "tiff_lzw"}),
        ("jpeg.tif", "TIFF", rgb, {"compression": "jpeg"}),
        ("deflate.tif", "TIFF", rgb.convert("RGBA"), {"compression": "tiff_adobe_deflate"}),
        ("float.tif", "TIFF", Image.fromarray(grey.astype(np.float32) / 255), {}),
        ("whole.tif", "TIFF", Image.fromarray(grey.astype(np.int32) << 16), {}),
        ("pages.tif", "TIFF", rgb, {"save_all": True, "append_images": frames[1:]}),
        ("one.gif", "GIF", rgb, {}),
        ("moving.gif", "GIF", rgb, {"save_all": True, "append_images": frames[1:]}),
        ("rgb.avif", "AVIF", rgb, {}),
    ]
    for name, format, image, options in recipes:
        yield name, encoded(image, format, **options)
    yield "phone.heic", (DATA / "phone.heic").read_bytes()


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = image.copy()  # Pillow leaves settings on an image that it saved
    if more := options.get("append_images"):
        options["append_images"] = [frame.copy() for frame in more]
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _mutations(name: str, data: bytes, others: list[bytes], chance: random.Random) -> Iterator[File]:
    for k in range(BIT_FLIPS):
        broken = bytearray(data)
        reach = len(data) if k % 2 else min(len(data), 200)  # as often in the header as anywhere
        for _ in range(chance.choice((1, 2, 8, 64))):
            broken[chance.randrange(reach)] ^= 1 << chance.randrange(8)
        yield f"flipped-{k}-{name}", bytes(broken)
    for k in range(TRUNCATIONS):
        yield f"cut-{k}-{name}", data[: chance.randrange(len(data)) if k else 12]
    for k in range(LIES):
        broken = bytearray(data)
        at = chance.randrange(4, min(len(data) - 4, 120))
        broken[at : at + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", chance.randbytes(4)))
        yield f"lie-{k}-{name}", bytes(broken)
    for k in range(CUTS):
        start = chance.randrange(len(data))
        end = min(len(data), start + chance.randrange(1, 200))
        yield f"gap-{k}-{name}", data[:start] + data[end:]
        yield f"twice-{k}-{name}", data[:end] + data[start:]
    for k in range(SPLICES):
        other = chance.choice(others)
        yield (
            f"splice-{k}-{name}",
            data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :],
        )


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes, colour: int = 2, depth: int = 8) -> bytes:
    """A PNG that promises a size; its content is `chunks`."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def tiff(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF of tags (number, type, count, value or offset) and nothing else; the next page is the first one
    again.
    """
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 8)


def gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    """A GIF whose frame has another size than its screen."""
    colours = bytes((0, 0, 0, 255, 255, 255))
    picture = struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x4c\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + colours + b"\x2c" + picture + b"\x3b"


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 54, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG that promises another size than its content has."""
    data = bytearray(encoded(Image.new("RGB", (16, 16)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def lying_headers() -> Iterator[File]:
    """Sizes that no photo has, in every format whose header is plain."""
    sizes = [
        (0, 0),
        (0, 5),
        (1, 1),
        (1, 60000),
        (60000, 1),
        (65500, 3),
        (20000, 10),
        (9000, 9000),
        (65535, 65535),
    ]
    wide = [(1, 50_000_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (2**16, 2**16)]
    empty = chunk(b"IDAT", zlib.compress(b""))
    for width, height in sizes + wide:
        label = f"{width}x{height}"
        for colour, depth in ((0, 1), (0, 16), (2, 8), (3, 8), (4, 16), (6, 16)):
            yield f"size-{label}-{colour}.png", png(width, height, empty, colour=colour, depth=depth)
        yield f"size-{label}.bmp", bmp(width, height)
        yield f"upside-{label}.bmp", bmp(width, -height)
        tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
        for compression in (1, 5, 7, 8, 34925, 50000):
            strip = [(259, 3, 1, compression), (273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, 2**31)]
            yield f"size-{label}-{compression}.tif", tiff(*tags, *strip)
    for width, height in sizes:
        yield f"size-{width}x{height}.jpg", jpeg_of_size(width, height)
        yield f"size-{width}x{height}.gif", gif((width, height), (4, 4))
        yield f"frame-{width}x{height}.gif", gif((4, 4), (width, height))


def scan_bomb(side: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes `scans` times more: each costs a pass over the whole picture."""  # noqa: E501
    data = encoded(Image.new("RGB", (side, side), "grey"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + data[-2:]


def chunk_bombs() -> Iterator[File]:
    """Little that becomes much, or goes on for ever."""
    rows = chunk(b"IDAT", zlib.compress(bytes(48 * 193)))
    bomb = zlib.compress(bytes(50_000_000), 9)
    for kind, start in ((b"zTXt", b"a\0\0"), (b"iCCP", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        yield f"bomb-{kind.decode()}.png", png(64, 48, chunk(kind, start + bomb), rows)
    yield "bomb-rows.png", png(64, 48, chunk(b"IDAT", bomb))
    yield "many-words.png", png(64, 48, chunk(b"tEXt", b"a\0b") * 50_000, rows)
    yield "many-zipped.png", png(64, 48, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000))) * 100, rows)
    yield "no-rows.png", png(64, 48)
    for tag in (270, 273, 279, 320, 330, 700, 33723, 34377, 34665, 34675, 34853):
        size = [(256, 4, 1, 64), (257, 4, 1, 48), (258, 3, 1, 8), (262, 3, 1, 1)]
        for kind, count in ((2, 2**32 - 1), (4, 2**30), (12, 2**28), (1, 2**31)):
            yield f"bomb-{tag}-{kind}.tif", tiff(*size, (tag, kind, count, 8))
    tile = [(256, 4, 1, 64), (257, 4, 1, 48), (258, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1), (259, 3, 1, 8)]
    yield (
        "huge-tile.tif",
        tiff(*tile, (322, 4, 1, 2**30), (323, 4, 1, 2**30), (324, 4, 1, 8), (325, 4, 1, 99)),
    )
    yield "scans.jpg", scan_bomb(256, 300)


def disguised_files() -> Iterator[File]:
    """Other things with a picture's ending; a decoder of theirs may run programs or fetch addresses."""
    rgb = Image.new("RGB", (24, 24), "red")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", encoded(rgb, "PNG"))
    ppm = encoded(rgb, "PPM")
    others = {
        "postscript": (DATA / "hostile" / "ghostscript_loop.jpg").read_bytes(),
        "eps": encoded(rgb, "EPS"),
        "pdf": encoded(rgb, "PDF"),
        "icns": encoded(rgb.resize((512, 512)), "ICNS"),
        "ico": encoded(rgb, "ICO"),
        "jp2": encoded(rgb, "JPEG2000"),
        "tga": encoded(rgb, "TGA"),
        "pcx": encoded(rgb, "PCX"),
        "ppm": ppm,
        "sgi": encoded(rgb, "SGI"),
        "dds": encoded(rgb, "DDS"),
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://192.0.2.1/a.png"/></svg>',
        "html": b"<!doctype html><script>alert(1)</script>",
        "zip": archive.getvalue(),
        "fits": b"SIMPLE  =                    T" + b" " * 2850,
        "wmf": b"\xd7\xcd\xc6\x9a\0\0" + bytes(60),
        "elf": b"\x7fELF" + bytes(60),
        "video": struct.pack(">I", 24) + b"ftypisom" + bytes(12),
        "nothing": b"",
    }
    picture = encoded(rgb, "JPEG")
    for kind, data in others.items():
        for ending in ("jpg", "png", "webp", "heic", "tif"):
            yield f"{kind}.{ending}", data
        yield f"before-{kind}.jpg", data + picture
        yield f"behind-{kind}.jpg", picture + data


def outcome(path: Path) -> str | None:
    """What is wrong with how `load_photo` takes a file, or None: a picture or one plain sentence is right."""
    from agedit import AgeEditError, load_photo

    try:
        rgb = load_photo(path)
    except AgeEditError as error:
        text = str(error)
        plain = (
            text.endswith(".") and "\n" not in text and str(path.parent) not in text and "Error" not in text
        )
        return None if plain else f"{path.name}: {text}"
    except BaseException as error:
        return f"{path.name}: {type(error).__name__}: {error}"
    return (
        None if rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 else f"{path.name}: {rgb.shape}"
    )


def main() -> None:
    """Try all; print {"files", "read", "wrong": [...], "memory": peak bytes of this process and of its
    decoders}.
    """
    import resource

    from agedit import decoder

    wrong, count = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name, data in all_files():
            path = Path(folder) / name
            path.write_bytes(data)
            found = outcome(path)
            path.unlink()
            count += 1
            wrong += [found] if found else []
    decoder.shared().close()
    # a process's own peak since its start: the kernel's ru_maxrss would include that of whoever forked it
    own = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert own is not None
    memory = [int(own[1]) * 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024]
    print(json.dumps({"files": count, "wrong": wrong, "memory": memory}))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
    main()
