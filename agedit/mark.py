"""Marks that say a picture is synthetic: words in a corner, and metadata that programs read (IPTC digital source type)."""

import cv2
import numpy as np

TEXT = "AI-edited"
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 Iptc4xmpExt:DigitalSourceType="{SOURCE}" xmp:CreatorTool="AgeEdit">
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">The apparent age in this photo was edited by a neural network.</rdf:li>
</rdf:Alt></dc:description></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()


def stamp(rgb, text=TEXT):
    """A copy of RGB uint8 (H, W, 3) with small words in the lower right corner, readable on light and dark."""
    height, width = rgb.shape[:2]
    scale = max(0.35, min(height, width) / 1100)
    (w, h), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    out, at = (
        np.ascontiguousarray(rgb).copy(),
        (max(2, width - w - int(14 * scale)), height - int(14 * scale)),
    )
    line = max(1, round(scale * 1.4))
    for colour, thickness in (((0, 0, 0), line + 2), ((255, 255, 255), line)):
        cv2.putText(out, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
    return out
