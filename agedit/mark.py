"""Marks that say a picture is synthetic: words in a corner, and metadata (IPTC digital source type)."""

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

TEXT = "AI-edited"
WORDS = "The apparent age in this picture was edited by a neural network (AgeEdit)."
CAPTION = "The apparent age in this photo was edited by a neural network."
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 Iptc4xmpExt:DigitalSourceType="{SOURCE}" xmp:CreatorTool="AgeEdit">
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">{CAPTION}</rdf:li>
</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()

XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # the type of an XMP packet in MP4
# after the packet: whoever skips it as GIF sub-blocks, at whichever of its bytes, lands on the end
GIF_TRAILER = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"


def stamp(picture: npt.NDArray[np.uint8], text: str = TEXT) -> npt.NDArray[np.uint8]:
    """A copy with small words in the lower right corner, readable on light and dark.

    Args:
        picture: RGB uint8 (H, W, 3), or RGBA uint8 (H, W, 4): the words are opaque there.
    """
    height, width = picture.shape[:2]
    scale = max(0.35, min(height, width) / 1100)
    (text_width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    out = np.ascontiguousarray(picture).copy()
    margin = int(14 * scale)
    at = max(2, width - text_width - margin), height - margin
    line = max(1, round(scale * 1.4))
    for level, thickness in ((0, line + 2), (255, line)):
        colour = (level, level, level, 255)
        cv2.putText(out, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
    return out


def mark_gif(path: str | os.PathLike[str]) -> None:
    """Write into a GIF that it is synthetic: a comment, and XMP as Adobe lays it out."""
    data = Path(path).read_bytes()
    end = 13  # signature and screen
    if data[10] & 0x80:
        end += 3 << ((data[10] & 7) + 1)  # the colours of all frames
    words = WORDS.encode()
    comment = b"\x21\xfe" + bytes([len(words)]) + words + b"\x00"
    xmp = b"\x21\xff\x0bXMP DataXMP" + XMP + GIF_TRAILER
    Path(path).write_bytes(b"GIF89a" + data[6:end] + xmp + comment + data[end:])


def mark_mp4(path: str | os.PathLike[str]) -> None:
    """Write into an MP4 that it is synthetic: XMP at its end, and a comment among the film's tags.

    The comment is written where the index of the film comes last, as OpenCV writes it: elsewhere it would
    move the frames that the index points to.
    """
    data = Path(path).read_bytes()
    boxes = _boxes(data)
    if boxes[-1][0] == b"moov":
        kept = [box for kind, box in _boxes(boxes[-1][1][8:]) if kind != b"udta"]  # else two sets of tags
        boxes[-1] = b"moov", _box(b"moov", b"".join(kept) + _comment_box())
    Path(path).write_bytes(b"".join(box for _, box in boxes) + _box(b"uuid", XMP_BOX + XMP))


def is_whole_mp4(path: str | os.PathLike[str]) -> bool:
    """Whether a film has its frames and their index, each to its end."""
    data = Path(path).read_bytes()
    boxes = dict(_boxes(data))
    lengths = [struct.unpack(">I", box[:4])[0] for box in boxes.values()]
    is_cut = any(length > len(box) for length, box in zip(lengths, boxes.values(), strict=True))
    return {b"ftyp", b"moov", b"mdat"} <= set(boxes) and not is_cut


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """(type, whole box) of what lies side by side in an MP4, in order."""
    found = []
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if size == 1:
            (size,) = struct.unpack(">Q", data[at + 8 : at + 16])
        end = at + size if size >= 8 else len(data)
        found.append((kind, data[at:end]))
        at = end
    return found


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


def _comment_box() -> bytes:
    """A udta box with one tag, as players read it (iTunes' layout)."""
    handler = _box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9))
    text = _box(b"data", struct.pack(">II", 1, 0) + WORDS.encode())
    tags = _box(b"ilst", _box(b"\xa9cmt", text))
    return _box(b"udta", _box(b"meta", bytes(4) + handler + tags))
