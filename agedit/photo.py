"""Reading and writing pictures: orientation, colour, limits, metadata, clear errors."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from agedit.errors import AgeEditError
from agedit.mark import XMP

MAX_PIXELS = 50_000_000
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
Image.MAX_IMAGE_PIXELS = None  # our own limit below speaks plainly; Pillow's only warns at first


def load_photo(source):
    """Read a picture as the eye sees it.

    Args:
        source: path, bytes, or a PIL image. Any mode (grey, CMYK, 16 bit, palette, RGBA over white), any EXIF turn.

    Returns:
        RGB uint8, shape (H, W, 3), in sRGB.

    Raises:
        AgeEditError: not a picture, damaged, or over 50 megapixels.
    """
    name = Path(source).name if isinstance(source, (str, Path)) else "The picture"
    try:
        image = (
            source
            if isinstance(source, Image.Image)
            else Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        )
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise AgeEditError(
                f"{name} has {width * height / 1e6:.0f} megapixels; shrink it below "
                f"{MAX_PIXELS // 1_000_000} megapixels and try again."
            )
        image.load()
        try:
            image = ImageOps.exif_transpose(image)
        except Exception:  # damaged EXIF: the photo itself may be fine
            pass
        return np.ascontiguousarray(np.asarray(_to_rgb(image)))
    except AgeEditError:
        raise
    except (FileNotFoundError, IsADirectoryError):
        raise AgeEditError(f"There is no picture at {source}; check the path.") from None
    except PermissionError:
        raise AgeEditError(f"{name} may not be read; check its permissions.") from None
    except UnidentifiedImageError:
        raise AgeEditError(
            f"{name} is not a picture that can be read; use a JPEG, PNG or WebP photo."
        ) from None
    except Exception as error:  # decoders raise what they like on damaged files
        raise AgeEditError(f"{name} is damaged or incomplete ({error}); save or download it again.") from None


def _to_rgb(image):
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, np.float64)
        scale = 257.0 if values.max(initial=0) > 255 else 1.0
        image = Image.fromarray(np.clip(values / scale + 0.5, 0, 255).astype(np.uint8))
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("RGB", "CMYK", "L"):
        try:  # wide-gamut and print profiles; a broken profile is no reason to refuse the photo
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def encode_photo(rgb, format="PNG", synthetic=False, lasting=False):
    """RGB uint8 (H, W, 3) to file bytes without EXIF; quick rather than small, because the visitor waits.

    lasting: a JPEG to keep, not to look at in passing: every pixel its own colour.

    synthetic: also write metadata that says so (PNG, JPEG and WebP; see `agedit.mark`). No pixel changes.
    """
    buffer = io.BytesIO()
    jpeg = {"quality": 95, "subsampling": "4:4:4"} if lasting else {"quality": 93, "subsampling": "4:2:0"}
    options = {"PNG": {"compress_level": 1}, "JPEG": jpeg, "WEBP": {"quality": 95}}.get(format, {})
    if synthetic and format == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode())
        info.add_text("Comment", "The apparent age in this photo was edited by a neural network (AgeEdit).")
        options = options | {"pnginfo": info}
    elif synthetic and format in ("JPEG", "WEBP"):
        options = options | {"xmp": XMP}
    Image.fromarray(rgb).save(buffer, format, **options)
    return buffer.getvalue()


def check_output(path):
    """Refuse a picture path that cannot be written, before any work is done."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise AgeEditError(
            f"{path.name} has no known picture ending; use one of {', '.join(sorted(FORMATS))}."
        )
    if not path.parent.is_dir():
        raise AgeEditError(f"The folder {path.parent} does not exist; make it first.")
    return path


def save_photo(path, rgb, synthetic=False):
    """Write RGB uint8 (H, W, 3); the ending chooses the format. synthetic: as in `encode_photo`. Raises AgeEditError with the reason."""
    path = check_output(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(encode_photo(rgb, FORMATS[path.suffix.lower()], synthetic, lasting=True))
        os.replace(temporary, path)  # whole or not at all: the old picture is never lost
    except (OSError, ValueError) as error:
        temporary.unlink(missing_ok=True)
        raise AgeEditError(
            f"{path} could not be written ({getattr(error, 'strerror', None) or error}); "
            "choose another place or ending."
        ) from None
