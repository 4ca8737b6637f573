"""Pictures: odd but valid ones just work, bad ones end in one sentence, edits say that they are."""

import errno
import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from xml.etree import ElementTree

import c2pa
import cv2
import mutagen.mp4
import numpy as np
import pillow_heif
import pytest
from conftest import PORTRAITS, ROOT
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin
from security import malformed
from security.malformed import encoded

from agedit import AgeEditError, credentials, decoder, decoding, load_photo, save_photo
from agedit.credentials import MEDIA_TYPES
from agedit.mark import SOURCE, stamp
from agedit.photo import REASONS, check_output, edited_name, encode_like, encode_photo, open_photo
from agedit.reports.journey import strip, write_gif, write_mp4

try:
    import resource
except ImportError:  # Windows
    resource = None

DATA = Path(__file__).resolve().parent / "data"
RGB = np.dstack([*np.meshgrid(np.arange(40), np.arange(60), indexing="ij"), np.full((40, 60), 90)]).astype(
    np.uint8
)


def saved(tmp_path, image, name, **options):
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA"])
def test_other_modes_just_work(tmp_path, mode):
    rgb = load_photo(saved(tmp_path, Image.fromarray(RGB).convert(mode), "a.png"))
    assert rgb.shape == (40, 60, 3) and rgb.dtype == np.uint8


def test_cmyk_jpeg_and_sixteen_bit(tmp_path):
    assert load_photo(saved(tmp_path, Image.fromarray(RGB).convert("CMYK"), "a.jpg")).shape == (40, 60, 3)
    deep = Image.fromarray(RGB[..., 1].astype(np.uint16) * 257)
    got = load_photo(saved(tmp_path, deep, "deep.png"))
    assert np.abs(got[..., 0].astype(int) - RGB[..., 1]).max() <= 1


def test_transparency_shows_white(tmp_path):
    clear = np.dstack([RGB, np.zeros((40, 60), np.uint8)])
    assert (load_photo(saved(tmp_path, Image.fromarray(clear, "RGBA"), "a.png")) == 255).all()


@pytest.mark.parametrize("content,words", [(b"hello", "not a picture"), (b"", "not a picture")])
def test_not_an_image(tmp_path, content, words):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(AgeEditError, match=words):
        load_photo(tmp_path / "a.jpg")


def test_a_truncated_file(tmp_path):
    path = saved(
        tmp_path, Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)), "a.jpg"
    )
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(AgeEditError, match="damaged or incomplete"):
        load_photo(path)


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", b"")
    )
    with pytest.raises(AgeEditError, match="50 megapixels"):
        load_photo(bomb)


def test_missing_file_and_unwritable_place(tmp_path):
    with pytest.raises(AgeEditError, match="no picture"):
        load_photo(tmp_path / "nothing.jpg")
    with pytest.raises(AgeEditError, match="does not exist"):
        save_photo(tmp_path / "no" / "a.png", RGB)
    with pytest.raises(AgeEditError, match="ending"):
        save_photo(tmp_path / "a.xyz", RGB)


def test_a_folder_that_takes_nothing_is_one_sentence(tmp_path, monkeypatch):
    """Found out before the work begins where that can be seen, else when the picture is written."""

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(AgeEditError, match=r"^The folder .* may not be written; .*\.$"):
            check_output(tmp_path / "a.png")
    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)  # which such a folder refuses as well
    with pytest.raises(
        AgeEditError, match=r"^.*a\.png could not be written \(Read-only file system\); .*\.$"
    ):
        save_photo(tmp_path / "a.png", RGB)


@pytest.mark.skipif(resource is None, reason="this system limits no sizes of files")
@pytest.mark.parametrize("write", [write_gif, write_mp4])
@pytest.mark.parametrize("room", [0, 1000, 5000, 20_000])
def test_a_film_for_which_there_is_no_room_is_one_sentence_and_leaves_nothing(tmp_path, write, room):
    """As on a full disk, whoever writes: OpenCV and Pillow in C, and we ourselves."""
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 255, (160, 160, 3), np.uint8) for _ in range(4)]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(AgeEditError, match=r"^The film could not be written; .*\.$"):
            write(tmp_path / ("a.gif" if write is write_gif else "a.mp4"), pictures)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_saved_pictures_carry_no_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = "A camera"
    source = io.BytesIO()
    Image.fromarray(RGB).save(source, "JPEG", exif=exif)
    for name in ("a.jpg", "a.png", "a.webp"):
        save_photo(tmp_path / name, load_photo(source.getvalue()))
        assert not Image.open(tmp_path / name).getexif()
    assert np.array_equal(load_photo(tmp_path / "a.png"), load_photo(source.getvalue()))


# formats, limits and the process that decodes


@pytest.mark.parametrize(
    "format", ["EPS", "ICNS", "PPM", "ICO", "TGA", "PCX", "JPEG2000", "SGI", "DDS", "PDF"]
)
def test_only_named_formats_are_decoded_whatever_the_ending(tmp_path, format):
    data = encoded(Image.fromarray(np.zeros((64, 64, 3), np.uint8)), format)
    for name in ("a.jpg", "a.png", "a.heic", "a.tif"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(AgeEditError, match="not a picture that can be read"):
            load_photo(tmp_path / name)
    if format != "PDF":
        with pytest.raises(AgeEditError, match="not a picture that can be read"):
            load_photo(Image.open(io.BytesIO(data)))  # not decoded yet, and not by us


@pytest.mark.parametrize("name", sorted(p.name for p in (DATA / "hostile").iterdir()))
def test_hostile_files_end_in_one_sentence(name):
    with pytest.raises(AgeEditError) as error:
        load_photo(DATA / "hostile" / name)
    assert str(error.value).endswith(".") and str(DATA) not in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        malformed.png(9000, 9000, malformed.chunk(b"IDAT", b"")),
        malformed.bmp(9000, 9000),
        malformed.gif((9000, 9000), (4, 4)),
        malformed.gif((4, 4), (9000, 9000)),
        malformed.jpeg_of_size(9000, 9000),
        malformed.tiff((256, 4, 1, 9000), (257, 4, 1, 9000), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8)),
    ],
)
def test_the_pixel_limit_holds_before_decoding_in_every_format(data):
    with pytest.raises(AgeEditError, match="81 megapixels"):
        load_photo(data)


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(4100, 100), (100, 4100), (41, 1)])
def test_slim_pictures_are_refused_and_panoramas_are_not(format, size):
    with pytest.raises(AgeEditError, match="too narrow for a photo"):
        load_photo(encoded(Image.new("RGB", size), format))
    shorter = tuple(min(n, 30 * min(size)) for n in size)
    assert load_photo(encoded(Image.new("RGB", shorter), format)).shape[1::-1] == shorter


def test_a_picture_that_takes_too_long_is_given_up_and_the_next_one_is_read(monkeypatch):
    slow = malformed.scan_bomb(4000, 20_000)  # small, and worth minutes
    impatient = decoder.Decoder(seconds=2)
    errors = []

    def read():  # as on the page, where signals do not help: not in the main thread
        try:
            impatient.decode(slow)
        except decoding.RefusedError as error:
            errors.append(error.reason)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join(60)
    assert errors == ["slow"]
    impatient.seconds = 120  # a busy machine starts its process slowly
    assert impatient.decode(encoded(Image.fromarray(RGB), "PNG")).colours.shape == RGB.shape
    impatient.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts no processor time for us")
def test_the_limit_counts_processor_time(monkeypatch):
    monkeypatch.setattr(decoder, "PROGRAM", decoder.PROGRAM.replace("serve()", "serve(cpu_seconds=1)"))
    patient = decoder.Decoder(seconds=300)
    with pytest.raises(decoding.RefusedError) as error:
        patient.decode(malformed.scan_bomb(4000, 20_000))
    assert error.value.reason == "slow"
    patient.close()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by the system")
def test_a_decoder_gets_no_more_memory_than_a_photo_needs(monkeypatch):
    monkeypatch.setattr(decoder, "PROGRAM", decoder.PROGRAM.replace("serve()", "serve(memory=150_000_000)"))
    hungry = decoder.Decoder()
    with pytest.raises(decoding.RefusedError) as error:
        hungry.decode(encoded(Image.new("RGB", (6000, 6000)), "PNG", compress_level=1))
    assert error.value.reason == "memory"
    hungry.close()


def test_a_jpeg_of_many_scans_is_refused_at_once(tmp_path):
    file = io.BytesIO()
    Image.new("L", (400, 400)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content.rindex(b"\xff\xda")
    path = tmp_path / "scans.jpg"
    path.write_bytes(content[:-2] + content[last:-2] * decoding.MOST_SCANS + b"\xff\xd9")
    with pytest.raises(AgeEditError, match="takes too long"):
        open_photo(path)
    path.write_bytes(content)
    assert open_photo(path).rgb.shape == (400, 400, 3)


@pytest.mark.parametrize("reason", [errno.EMFILE, errno.EAGAIN, errno.ENOMEM])
def test_a_machine_that_has_nothing_left_decodes_nothing_without_limits(monkeypatch, reason):
    def exhausted(*args, **kwargs):
        raise OSError(reason, "no")

    monkeypatch.setattr(decoder.subprocess, "Popen", exhausted)
    with pytest.raises(decoding.RefusedError) as refused:
        decoder.Decoder().decode(PORTRAITS[0].read_bytes())
    assert refused.value.reason == "memory"


def test_a_decoder_that_dies_takes_nothing_down(monkeypatch):
    monkeypatch.setattr(decoder, "PROGRAM", "import os; os.abort()")
    dying = decoder.Decoder()
    with pytest.raises(decoding.RefusedError) as error:
        dying.decode(encoded(Image.fromarray(RGB), "PNG"))
    assert error.value.reason == "damaged"
    monkeypatch.undo()
    assert dying.decode(encoded(Image.fromarray(RGB), "PNG")).colours.shape == RGB.shape
    free = dying._free[0]
    free.process.kill()
    free.process.wait()
    assert dying.decode(encoded(Image.fromarray(RGB), "PNG")).colours.shape == RGB.shape
    dying.close()


def test_an_idle_decoder_ends_so_that_no_photo_stays_in_memory(monkeypatch):
    monkeypatch.setattr(decoder, "PROGRAM", decoder.PROGRAM.replace("serve()", "serve(idle=0.5)"))
    resting = decoder.Decoder()
    resting.decode(encoded(Image.fromarray(RGB), "PNG"))
    assert resting._free[0].process.wait(60) == 0
    assert resting.decode(encoded(Image.fromarray(RGB), "PNG")).colours.shape == RGB.shape
    resting.close()


def test_the_decoder_ends_with_its_program():
    code = (
        "from agedit import load_photo, decoder; import sys, os\n"
        "load_photo(sys.argv[1]); print(decoder.shared()._free[0].process.pid, flush=True); os._exit(0)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, PORTRAITS[0]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    pid = int(run.stdout)
    for _ in range(600):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the decoder outlived its program")


def test_where_no_process_can_be_started_photos_are_decoded_here(monkeypatch):
    monkeypatch.setattr(decoder, "_Process", lambda: (_ for _ in ()).throw(OSError("not here")))
    alone = decoder.Decoder()
    assert np.array_equal(alone.decode(encoded(Image.fromarray(RGB), "PNG")).colours, RGB)
    with pytest.raises(decoding.RefusedError):
        alone.decode(malformed.png(9000, 9000))


def test_reading_changes_nothing_of_pillow_for_the_program_around():
    code = (
        "from PIL import Image; limit, formats = Image.MAX_IMAGE_PIXELS, set(Image.OPEN)\n"
        "from agedit import decoder, load_photo; import sys\n"
        "load_photo(sys.argv[1]); decoder.decode_here(sys.argv[1])\n"
        "assert Image.MAX_IMAGE_PIXELS == limit and limit, Image.MAX_IMAGE_PIXELS\n"
        "assert 'HEIF' not in Image.OPEN"
    )
    subprocess.run([sys.executable, "-c", code, DATA / "phone.heic"], cwd=ROOT, check=True)


def test_folders_pipes_and_devices_are_no_pictures(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path, tmp_path / "pipe.jpg", "/dev/zero", "a\0b.jpg", tmp_path / ("n" * 300 + ".jpg")):
        with pytest.raises(AgeEditError, match="no picture"):
            load_photo(path)


MEASURE = """
import os, sys, threading
from agedit import AgeEditError, decoder
from agedit.photo import open_photo

def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def watch():
    global peak
    while not done.wait(0.005):
        pids = [os.getpid(), *open(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read().split()]
        try:
            peak = max(peak, sum(map(resident, pids)))
        except OSError:  # one has just ended
            pass

peak, done = 0, threading.Event()
watcher = threading.Thread(target=watch)
watcher.start()
try:
    print(open_photo(sys.argv[1]).rgb.shape)
except AgeEditError as error:
    print(error)
done.set()
watcher.join()
print(peak)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "mode,name,options",
    [
        ("CMYK", "a.jpg", {"progressive": True, "subsampling": 0}),
        ("RGBA", "a.png", {"compress_level": 1}),
        ("F", "a.tif", {}),
        ("P", "a.png", {"compress_level": 1, "transparency": bytes(256)}),
        ("RGBA", "a.webp", {"lossless": True, "quality": 0, "method": 0}),
    ],
)
def test_the_largest_photos_leave_room_for_the_networks(tmp_path, mode, name, options):
    profile = {} if mode == "CMYK" else {"icc_profile": PROFILE}
    color = {"RGBA": (9, 9, 9, 9), "CMYK": (9, 9, 9, 9)}.get(mode, 1)
    Image.new(mode, (7070, 7070), color).save(tmp_path / name, **options, **profile)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / name],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    shape, memory = run.stdout.splitlines()
    assert shape == "(7070, 7070, 3)" and int(memory) < 1.3e9, run  # and the networks beside it


def test_a_thousand_malformed_files_are_read_or_refused_plainly():
    run = subprocess.run(
        [sys.executable, malformed.__file__],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stderr[-2000:]  # a crash of the interpreter is another number
    found = json.loads(run.stdout)
    assert found["files"] >= 1000 and not found["wrong"], found["wrong"]
    assert sum(found["memory"]) < 1.5e9


def test_the_malformed_files_are_the_same_each_time():
    names = [name for name, _ in malformed.disguised_files()]
    assert len(names) == len(set(names))
    once, again = (hash(tuple(malformed.chunk_bombs())) for _ in range(2))
    assert once == again


# as the eye sees it


GREY = np.linspace(0, 255, 40 * 60).reshape(40, 60)


@pytest.mark.parametrize(
    "values",
    [
        (GREY / 255).astype(np.float32),
        (GREY * 257).astype(np.float32),
        GREY.astype(np.float32),
        (GREY * 257).astype(np.uint16),
        np.rint(GREY).astype(np.int32),
        np.rint(GREY * 257).astype(np.int32),
        np.rint(GREY / 255 * (2**31 - 1)).astype(np.int64).clip(0, 2**31 - 1).astype(np.int32),
        np.rint(GREY / 255 * (2**32 - 1)).astype(np.uint32),
        np.dstack([GREY / 255] * 3).astype(np.float32),
        np.dstack([GREY * 257] * 3).astype(np.float32),
        np.dstack([GREY * 257] * 3).astype(np.uint16),
        np.dstack([np.rint(GREY * 2**23)] * 3).astype(np.int32),
    ],
    ids=lambda v: f"{v.dtype}-{v.ndim}-{v.max():.0f}",
)
def test_deep_tiffs_read_as_the_eye_sees_them(tmp_path, values):
    if values.ndim == 2 and values.dtype != np.uint32:
        Image.fromarray(values).save(tmp_path / "a.tif")
    elif values.ndim == 2:
        signed = encoded(Image.fromarray(values.view(np.int32)), "TIFF")
        kind = struct.pack("<HHI", 339, 3, 1)  # 2: signed, 1: not
        assert kind + b"\2" in signed
        (tmp_path / "a.tif").write_bytes(signed.replace(kind + b"\2", kind + b"\1"))
    else:
        cv2.imwrite(str(tmp_path / "a.tif"), values, [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    rgb = load_photo(tmp_path / "a.tif")
    assert np.abs(rgb.astype(float) - GREY[..., None]).max() <= 1.5


def test_fractions_that_are_no_numbers_and_white_that_is_zero(tmp_path):
    values = (GREY / 255).astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert load_photo(tmp_path / "a.tif")[1:].max() == 255
    Image.fromarray((GREY * 257).astype(np.uint16)).save(tmp_path / "b.tif", tiffinfo={262: 0})
    assert load_photo(tmp_path / "b.tif")[0, 0, 0] == 255


PROFILE = (DATA / "display_p3.icc").read_bytes()


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_a_profile_counts_with_alpha_as_without(format):
    options = {"icc_profile": PROFILE} | ({"lossless": True, "exact": True} if format == "WEBP" else {})
    plain = load_photo(encoded(Image.fromarray(RGB), format, **options))
    assert np.abs(plain.astype(int) - RGB).max() > 5  # it does something
    opaque = Image.fromarray(np.dstack([RGB, np.full((40, 60), 255, np.uint8)]))
    assert np.array_equal(plain, load_photo(encoded(opaque, format, **options)))
    half = open_photo(
        encoded(Image.fromarray(np.dstack([RGB, np.full((40, 60), 128, np.uint8)])), format, **options)
    )
    assert np.array_equal(plain, half.colours) and (half.alpha == 128).all()


def test_a_profile_counts_in_palettes_and_in_grey():
    palette = Image.fromarray(RGB).quantize(64)
    colours = np.asarray(palette.convert("RGB"))
    wanted = load_photo(encoded(Image.fromarray(colours), "PNG", icc_profile=PROFILE))
    assert np.array_equal(load_photo(encoded(palette, "PNG", icc_profile=PROFILE)), wanted)
    clear = open_photo(encoded(palette, "PNG", icc_profile=PROFILE, transparency=bytes([0] + [255] * 63)))
    assert np.array_equal(clear.colours, wanted) and clear.alpha is not None
    grey = np.rint(GREY).astype(np.uint8)
    profile = grey_profile(gamma=1.0)
    eight = load_photo(encoded(Image.fromarray(grey), "PNG", icc_profile=profile))
    assert eight[20, 30, 0] > grey[20, 30] + 30  # light that is written as it is, not as the eye sees it
    with_alpha = Image.merge("LA", (Image.fromarray(grey), Image.new("L", (60, 40), 255)))
    assert np.array_equal(eight, load_photo(encoded(with_alpha, "PNG", icc_profile=profile)))
    deep = load_photo(encoded(Image.fromarray(grey.astype(np.uint16) * 257), "PNG", icc_profile=profile))
    assert np.abs(deep.astype(int) - eight).max() <= 2


def grey_profile(gamma):
    """A minimal ICC profile of one grey curve."""
    curve = b"curv" + bytes(4) + struct.pack(">IHH", 1, round(gamma * 256), 0)
    white = b"XYZ " + bytes(4) + struct.pack(">iii", 63190, 65536, 54061)
    words = b"desc" + bytes(4) + struct.pack(">I", 2) + b"g\0" + bytes(78)
    tags, at, content = b"", 128 + 4 + 12 * 3, b""
    for name, value in ((b"kTRC", curve), (b"wtpt", white), (b"desc", words)):
        data = value + bytes(-len(value) % 4)
        tags += name + struct.pack(">II", at + len(content), len(data))
        content += data
    head = b"\0\0\0\0\x02\x40\0\0mntrGRAYXYZ " + bytes(12) + b"acsp" + bytes(28)
    head += struct.pack(">iii", 63190, 65536, 54061) + bytes(48)
    body = struct.pack(">I", 3) + tags + content
    return struct.pack(">I", 128 + len(body)) + head + body


def test_a_broken_profile_is_no_reason_to_refuse():
    for mode in ("RGB", "RGBA", "L", "LA"):
        load_photo(encoded(Image.fromarray(RGB).convert(mode), "PNG", icc_profile=b"nonsense" * 20))
        load_photo(encoded(Image.fromarray(RGB).convert(mode), "PNG", icc_profile=PROFILE))
    load_photo(encoded(Image.fromarray(RGB).convert("CMYK"), "JPEG", icc_profile=PROFILE))


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_turn(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(Image.fromarray(RGB), "PNG", exif=exif)
    assert np.array_equal(load_photo(data), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))


def with_turn(tiff, turn):
    """A TIFF of little-endian numbers whose first page says how it is to be turned."""
    (start,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, start)
    entries = [tiff[at : at + 12] for at in range(start + 2, start + 2 + 12 * count, 12)]
    said = struct.pack("<HHIHH", 0x0112, 3, 1, turn, 0)
    entries = [entry for entry in entries if entry[:2] != said[:2]] + [said]
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    padded = bytearray(tiff + bytes(len(tiff) % 2))
    struct.pack_into("<I", padded, 4, len(padded))
    return bytes(padded) + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


STORED = np.dstack(
    [np.linspace(0, 1, 60)[None] * np.ones((40, 1)), np.linspace(0, 1, 40)[:, None] * np.ones(60)]
)
STORED = np.dstack([STORED, STORED[::-1, ::-1, 0] * STORED[..., 1]])
DEEP = {
    "fractions": STORED,
    "fractions of 32 bit": STORED.astype(np.float32),
    "fractions with alpha": np.dstack([STORED, np.ones((40, 60))]).astype(np.float32),
    "whole numbers of 32 bit": np.rint(STORED * (2**31 - 1)).clip(0, 2**31 - 1).astype(np.int32),
    "grey fractions": STORED[..., 1].astype(np.float32),
    "16 bit": np.rint(STORED * 65535).astype(np.uint16),
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("packed", [True, False])
def test_every_turn_of_a_deep_tiff(tmp_path, kind, packed):
    """packed: as OpenCV writes it by itself, fractions in logarithms of 24 or 32 bit a pixel."""
    cv2.imwrite(str(tmp_path / "a.tif"), DEEP[kind], [] if packed else [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    stored = (tmp_path / "a.tif").read_bytes()
    colours = np.rint(STORED[..., ::-1] * 255).astype(np.uint8)
    if DEEP[kind].ndim == 2:
        colours = np.dstack([colours[..., 1]] * 3)
    exif = Image.Exif()
    for turn in range(1, 9):
        exif[0x0112] = turn
        upright = ImageOps.exif_transpose(
            Image.open(io.BytesIO(encoded(Image.fromarray(colours), "PNG", exif=exif)))
        )
        (tmp_path / "b.tif").write_bytes(with_turn(stored, turn))
        for source in (with_turn(stored, turn), tmp_path / "b.tif"):
            got = load_photo(source)
            assert got.shape == np.shape(upright), turn
            assert np.abs(got - np.asarray(upright, float)).mean() < 1.5, turn


CMYK_PROFILE = Path("/usr/share/color/icc/ghostscript/default_cmyk.icc")


@pytest.mark.skipif(not CMYK_PROFILE.exists(), reason="Ghostscript's profile of a press is not installed")
@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_a_print_profile_counts(format):
    """A photo prepared for print looks as it did before."""
    before = Image.open(PORTRAITS[0]).convert("RGB").resize((150, 100))
    profile = ImageCms.ImageCmsProfile(str(CMYK_PROFILE))
    ink = ImageCms.applyTransform(
        before, ImageCms.buildTransform(ImageCms.createProfile("sRGB"), profile, "RGB", "CMYK", 1)
    )
    assert ink is not None
    data = encoded(ink, format, icc_profile=CMYK_PROFILE.read_bytes())
    assert np.abs(load_photo(data).astype(float) - before).mean() < 4  # the press has fewer colours
    plain = encoded(ink, format, icc_profile=None)
    assert np.abs(load_photo(plain).astype(float) - before).mean() > 8


def test_heic_and_avif_are_read():
    photo = open_photo(DATA / "phone.heic")
    assert photo.rgb.shape == (1100, 1100, 3) and photo.format == "HEIF" and photo.stem == "phone"
    data = encoded(Image.fromarray(RGB), "AVIF", quality=90)
    assert np.abs(load_photo(data).astype(int) - RGB).mean() < 5


# several pictures in one file


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animations_are_refused_not_cut_to_one_frame(format):
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    with pytest.raises(AgeEditError, match="is an animation"):
        load_photo(data)
    assert load_photo(encoded(frames[0], format)).shape == RGB.shape


def test_pages_are_refused_and_thumbnails_are_not(tmp_path):
    with pytest.raises(AgeEditError, match=r"anim_faces\.gif is an animation"):
        load_photo(DATA / "anim_faces.gif")
    pages = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    with pytest.raises(AgeEditError, match="several pages"):
        load_photo(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    pages[1].encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert np.array_equal(load_photo(tmp_path / "a.tif"), RGB)


def test_the_further_pictures_of_phones_are_no_animation():
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    both = open_photo(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95))
    assert both.format == "MPO" and both.jpeg is not None
    assert np.abs(both.rgb.astype(int) - RGB).mean() < 3
    heic = io.BytesIO()
    burst = pillow_heif.HeifFile()
    for frame in frames:
        burst.add_from_pillow(frame)
    burst.save(heic, quality=90, primary_index=0)
    assert np.abs(load_photo(heic.getvalue()).astype(int) - RGB).mean() < 5


# writing


def cutout():
    """A photo with every strength of alpha, and colours behind the clear part."""
    alpha = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))
    return np.dstack([RGB, alpha])


@pytest.mark.parametrize("ending", ["png", "webp", "tiff"])
def test_an_edit_of_a_cutout_is_a_cutout(tmp_path, ending):
    stored = cutout()
    Image.fromarray(stored).save(tmp_path / "in.png")
    photo = open_photo(tmp_path / "in.png")
    out = tmp_path / f"out.{ending}"
    save_photo(out, photo.rgb, like=photo)
    assert np.array_equal(
        np.asarray(Image.open(out)), stored
    )  # no edit: what was read, also where nothing shows
    edited = np.minimum(photo.rgb, 235) + np.uint8(20)
    edited[:, 0] = 7  # an edit that spills where nothing shows
    save_photo(out, edited, like=photo, synthetic=True)
    got = np.asarray(Image.open(out))
    assert np.array_equal(got[..., 3], stored[..., 3])
    assert np.array_equal(got[:, 0, :3], stored[:, 0, :3])  # alpha 0
    assert np.array_equal(got[:, -1, :3], edited[:, -1])  # alpha 255
    shown = np.asarray(Image.alpha_composite(Image.new("RGBA", (60, 40), "white"), Image.fromarray(got)))[
        ..., :3
    ]
    solid = stored[0, :, 3] > 128
    assert np.abs(shown[:, solid].astype(int) - edited[:, solid]).max() <= 2


def test_a_cutout_as_jpeg_is_on_white_and_the_words_are_opaque(tmp_path):
    Image.fromarray(cutout()).save(tmp_path / "in.png")
    photo = open_photo(tmp_path / "in.png")
    jpeg = np.asarray(Image.open(io.BytesIO(encode_like(photo, photo.rgb, "JPEG"))))
    assert jpeg[:, 0].min() > 235
    clear = np.zeros((300, 400, 4), np.uint8)
    assert stamp(clear)[..., 3].max() == 255 and not clear.any()


@pytest.mark.parametrize("quality,subsampling", [(60, "4:2:0"), (85, "4:2:2"), (98, "4:4:4")])
def test_a_jpeg_comes_back_at_the_photos_quality(quality, subsampling):
    data = encoded(Image.fromarray(RGB), "JPEG", quality=quality, subsampling=subsampling)
    photo = open_photo(data)
    again = Image.open(io.BytesIO(encode_like(photo, photo.rgb, synthetic=True)))
    first = Image.open(io.BytesIO(data))
    assert again.format == "JPEG" and again.quantization == first.quantization
    assert JpegImagePlugin.get_sampling(again) == JpegImagePlugin.get_sampling(first)
    assert not again.getexif()


def test_what_was_no_jpeg_gets_a_good_one_and_grey_jpegs_too():
    photo = open_photo(encoded(Image.fromarray(RGB), "PNG"))
    data = Image.open(io.BytesIO(encode_like(photo, photo.rgb, "JPEG")))
    assert JpegImagePlugin.get_sampling(data) == 0 and max(data.quantization[0]) <= 20
    assert encode_like(photo, photo.rgb)[:4] == b"\x89PNG"
    for mode in ("L", "CMYK"):
        photo = open_photo(encoded(Image.fromarray(RGB).convert(mode), "JPEG", quality=70))
        assert Image.open(io.BytesIO(encode_like(photo, photo.rgb))).mode == "RGB"


@pytest.mark.parametrize(
    "stem,name",
    [
        ("me", "me_+20_years.png"),
        ("中文", "中文_+20_years.png"),
        ("a/b\\c:d*e?f", "a_b_c_d_e_f_+20_years.png"),
        ("..", "photo_+20_years.png"),
        ("", "photo_+20_years.png"),
        ("CON", "_CON_+20_years.png"),
        ("nul.tar", "_nul.tar_+20_years.png"),
        ("a\nb\u202egnp\ud800", "a_b_gnp__+20_years.png"),
        ("--help", "help_+20_years.png"),
    ],
)
def test_names_after_the_photo(stem, name):
    assert edited_name(stem, 20) == name


def test_long_names_are_cut_between_characters(tmp_path):
    for stem in ("n" * 300, "中" * 200, "👩‍🦳" * 100):
        name = edited_name(stem, -12.5, ".jpeg")
        assert len(name.encode()) <= 255 and name.endswith("_-12.5_years.jpeg")
        (tmp_path / name).write_bytes(b"")


def test_a_name_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("n" * 251 + ".png")
    save_photo(path, RGB)
    assert np.array_equal(load_photo(path), RGB) and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(AgeEditError, match="too long"):
        save_photo(tmp_path / ("n" * 252 + ".png"), RGB)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("lossless", [True, False])
def test_large_webps_read_as_small_ones(monkeypatch, lossless):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(cutout())
    data = encoded(image, "WEBP", lossless=lossless, exact=True, icc_profile=PROFILE, exif=exif)
    small = decoder.decode_here(data)
    monkeypatch.setattr(decoding, "LARGE_WEBP", 0)
    large = decoder.decode_here(data)
    assert large.header.orientation == small.header.orientation == 6
    assert np.array_equal(large.colours, small.colours) and np.array_equal(large.alpha, small.alpha)


# marks, read by others' readers


def source_type(xmp):
    """What an XML parser finds for IPTC's DigitalSourceType in an XMP packet."""
    description = ElementTree.fromstring(xmp)[0][0]
    return description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff"])
def test_every_format_with_metadata_says_so(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    save_photo(path, RGB, synthetic=True)
    image = Image.open(path)
    assert source_type(image.info["xmp"]) == SOURCE
    assert "neural network" in image.info["xmp"].decode()
    save_photo(path, RGB)
    assert SOURCE.encode() not in path.read_bytes()


def test_a_tiff_says_so_in_words_and_a_bmp_in_the_picture(tmp_path):
    save_photo(tmp_path / "a.tif", RGB, synthetic=True)
    with Image.open(tmp_path / "a.tif") as image:
        assert "neural network" in image.tag_v2[270]
    large = np.zeros((200, 300, 3), np.uint8)
    save_photo(tmp_path / "a.bmp", large, synthetic=True)
    assert np.array_equal(load_photo(tmp_path / "a.bmp"), stamp(large))
    save_photo(tmp_path / "a.bmp", large)
    assert np.array_equal(load_photo(tmp_path / "a.bmp"), large)


def moving_pictures():
    return [np.full((128, 128, 3), 40 * k, np.uint8) for k in range(5)]


def test_a_gif_says_so_and_still_moves(tmp_path):
    write_gif(tmp_path / "a.gif", moving_pictures())
    image = Image.open(tmp_path / "a.gif")
    assert image.n_frames == 8 and image.info["loop"] == 0
    assert "neural network" in image.info["comment"].decode()
    packet = (
        (tmp_path / "a.gif").read_bytes().split(b"\x21\xff\x0bXMP DataXMP")[1].split(b"\x01\xff\xfe\xfd")[0]
    )
    assert source_type(packet) == SOURCE
    for k in range(image.n_frames):
        image.seek(k)
        image.load()
        assert np.asarray(image.convert("L"))[100:].std() > 0  # the words


def test_a_film_says_so_and_still_plays(tmp_path):
    path = tmp_path / "a.mp4"
    write_mp4(path, moving_pictures())
    assert "neural network" in mutagen.mp4.MP4(path).tags["\xa9cmt"][0]
    data = path.read_bytes()
    boxes = dict(walk(data))
    assert SOURCE.encode() in boxes[b"uuid"] and boxes[b"uuid"].startswith(bytes.fromhex("be7acfcb97a942e8"))
    film, frames = cv2.VideoCapture(str(path)), []
    while (frame := film.read())[0]:
        frames.append(frame[1])
    assert len(frames) == 8 and frames[0].shape == (128, 128, 3)
    assert all(abs(int(f[10, 10, 0]) - 40 * min(k, 8 - k)) < 8 for k, f in enumerate(frames))


def walk(data):
    at = 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at + 8 : at + size]
        at += size


def test_the_strip_has_the_words_under_every_edit_and_not_under_the_photo(monkeypatch):
    frames = [(years, np.zeros((384, 384, 3), np.uint8)) for years in (-20.0, 0.0, 20.0)]

    def ink():
        cells = [strip(frames, 3)[384:, k * 390 : k * 390 + 384] for k in range(3)]
        return [int((cell < 128).any(2).any(0).sum()) for cell in cells]

    with_words = ink()
    monkeypatch.setattr("agedit.reports.journey.TEXT", "")
    without = ink()
    assert with_words[0] > 1.5 * without[0] and with_words[2] > 1.5 * without[2]
    assert with_words[1] == without[1]


# content credentials


def credentials_of(data, media_type):
    """What the C2PA library's reader finds: (state, every claim's actions, what it minds)."""
    found = json.loads(c2pa.Reader(media_type, io.BytesIO(data)).json())
    manifest = found["manifests"][found["active_manifest"]]
    actions = [a for part in manifest["assertions"] for a in part["data"].get("actions", [])]
    return (
        found["validation_state"],
        actions,
        {status["code"] for status in found.get("validation_status", [])},
    )


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_kept_edits_have_content_credentials(format):
    data = encode_photo(RGB, format, synthetic=True, for_download=True)
    state, actions, minded = credentials_of(data, MEDIA_TYPES[format])
    assert state == "Valid" and minded == {"signingCredential.untrusted"}  # whole; signed by nobody known
    assert actions[0]["digitalSourceType"] == SOURCE
    assert np.array_equal(load_photo(data), load_photo(encode_photo(RGB, format, for_download=True)))
    broken = bytearray(data)
    broken[-40] ^= 1
    assert credentials_of(bytes(broken), MEDIA_TYPES[format])[0] == "Invalid"
    with pytest.raises(c2pa.C2paError):
        c2pa.Reader(MEDIA_TYPES[format], io.BytesIO(encode_photo(RGB, format, for_download=True)))


def test_films_have_content_credentials(tmp_path):
    write_gif(tmp_path / "a.gif", moving_pictures())
    write_mp4(tmp_path / "a.mp4", moving_pictures())
    for name, media_type in (("a.gif", "image/gif"), ("a.mp4", "video/mp4")):
        state, actions, _ = credentials_of((tmp_path / name).read_bytes(), media_type)
        assert state == "Valid" and actions[0]["digitalSourceType"] == SOURCE


def test_no_two_pictures_can_be_traced_to_one_device():
    serials = set()
    for _ in range(2):
        found = json.loads(c2pa.Reader("image/png", io.BytesIO(encode_photo(RGB, synthetic=True))).json())
        serials.add(found["manifests"][found["active_manifest"]]["signature_info"]["cert_serial_number"])
    assert len(serials) == 2
    assert "thumbnail" not in json.dumps(found)


@pytest.mark.parametrize("missing", [True, False])
def test_without_the_library_pictures_go_without_credentials(monkeypatch, missing):
    if missing:
        monkeypatch.setitem(sys.modules, "c2pa", None)
    else:
        monkeypatch.setenv("AGEDIT_CREDENTIALS", "0")
    credentials._library.cache_clear()
    try:
        assert credentials._library() is None
        data = encode_photo(RGB, synthetic=True)
    finally:
        credentials._library.cache_clear()
    assert source_type(Image.open(io.BytesIO(data)).info["xmp"]) == SOURCE and b"c2pa" not in data


def test_every_reason_is_one_sentence_and_has_a_translation():
    from ui.words import ERRORS

    values = {"name": "a.jpg", "megapixels": 81.0, "limit": 50, "width": 1, "height": 90, "ratio": 40}
    assert {
        reason for reason in re.findall(r'RefusedError\("(\w+)"', Path(decoding.__file__).read_text())
    } <= REASONS.keys()
    for sentence in REASONS.values():
        said = sentence.format(**values)
        assert said.endswith(".") and any(re.fullmatch(pattern, said, re.DOTALL) for pattern, _ in ERRORS), (
            said
        )
