"""Reading pictures: odd but valid ones just work, bad ones end in one plain sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from agedit import AgeEditError, load_photo, save_photo

RGB = np.dstack(np.meshgrid(np.arange(40), np.arange(60), indexing="ij") + [np.full((40, 60), 90)]).astype(
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
    deep = Image.fromarray((RGB[..., 1].astype(np.uint16) * 257))
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


def test_saved_pictures_carry_no_exif(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = "A camera"
    source = io.BytesIO()
    Image.fromarray(RGB).save(source, "JPEG", exif=exif)
    for name in ("a.jpg", "a.png", "a.webp"):
        save_photo(tmp_path / name, load_photo(source.getvalue()))
        assert not Image.open(tmp_path / name).getexif()
    assert np.array_equal(load_photo(tmp_path / "a.png"), load_photo(source.getvalue()))
