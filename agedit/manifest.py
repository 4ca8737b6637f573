"""What `manifest.json` must look like, checked before anything in it is believed, and the file that pins its
hash.
"""

import hashlib
import json
import os
import stat
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from agedit.errors import AgeEditError
from agedit.submodel import SMALLEST, WIDTHS, candidates

MANIFEST = "manifest.json"
# one line, as sha256sum writes it, by whoever writes the manifest: a release, or a training of one's own
PIN = "manifest.sha256"
SCHEMA = 4
MOST_BYTES = 4_000_000
NETWORKS = "agedit.safetensors"
RANGES = "ranges.safetensors"  # for int8; absent until `calibrate` measured them
AGE_NETWORK = "age_gender_faceapi.onnx"
EXPRESSION_NETWORK = "expression_faceapi.onnx"
DETECTOR_MODEL = "face_detection_yunet.onnx"
HAIR_MODEL = "hair_segmentation_mobile.tflite"
IDENTITY_NETWORK = "identity_dlib.onnx"
THIRD_PARTY = (AGE_NETWORK, EXPRESSION_NETWORK, DETECTOR_MODEL, HAIR_MODEL, IDENTITY_NETWORK)
NEEDED = frozenset((NETWORKS, *THIRD_PARTY))
KNOWN = NEEDED | {RANGES}

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e6, le=1e6)]
Positive = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e6)]
Years = Annotated[float, Field(allow_inf_nan=False, ge=-100, le=100)]
Age = Annotated[float, Field(allow_inf_nan=False, ge=0, le=150)]
# steps along n; released ones are below 30
Alpha = Annotated[float, Field(allow_inf_nan=False, ge=-1000, le=1000)]
Resolution = Annotated[int, Field(ge=SMALLEST, le=max(WIDTHS))]
Ratio = Annotated[float, Field(gt=0, le=1)]


class Part(BaseModel):
    """Strict: "1" is no number, and no key is unknown."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Encoder(Part):
    """input: pixels of a side. convolutions: [(width, stride)]."""

    input: Annotated[int, Field(ge=32, le=1024)]
    convolutions: Annotated[
        list[tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=2)]]],
        Field(min_length=3, max_length=50),
    ]


class Children(Part):
    """Up to which change in years a child of an apparent age goes."""

    ages: list[Age]
    years: list[Age]

    @model_validator(mode="after")
    def check(self) -> "Children":
        rising("children.ages", self.ages)
        if len(self.years) != len(self.ages):
            raise ValueError("children.years and children.ages differ in length")
        return self


class Strengths(Part):
    """alpha of one sub-model by blur, age and years."""

    r: Resolution
    c: Ratio
    alpha: list[list[list[Alpha]]]


class Calibration(Part):
    """The tables of S63 (see `calibration.Calibration`)."""

    years: list[Years]
    ages: list[Age]
    blurs: list[Positive]
    youngest: Age
    oldest: Age
    children: Children
    photos: Annotated[int, Field(ge=0)] | None = None
    judges: Annotated[int, Field(ge=0)] | None = None
    judged: list[tuple[Years, Number]] | None = None
    submodels: list[Strengths]

    @model_validator(mode="after")
    def check(self) -> "Calibration":
        for name in ("years", "ages", "blurs"):
            rising(name, getattr(self, name))
        if 0 not in self.years:
            raise ValueError("years lacks 0")
        if self.youngest >= self.oldest:
            raise ValueError("youngest is not below oldest")
        for part in self.submodels:
            self.check_table(part.alpha)
        return self

    def check_table(self, table: list[list[list[float]]]) -> None:
        """Raise ValueError unless a table has the shape (blurs, ages, years), and is 0 at 0 years."""
        now = self.years.index(0)
        shaped = len(table) == len(self.blurs) and all(
            len(rows) == len(self.ages) and all(len(row) == len(self.years) for row in rows) for rows in table
        )
        if not shaped:
            raise ValueError("a table of alpha has another shape than blurs, ages and years")
        if any(row[now] != 0 for rows in table for row in rows):
            raise ValueError("alpha is not 0 at 0 years")


class Quality(Part):
    """What a sub-model's pictures are from the full network's."""

    r: Resolution
    c: Ratio
    lpips: Positive
    mse: Positive
    age_difference: Positive


class Manifest(Part):
    """The whole file; see `training.export` and `training.calibrate`, which write it."""

    # "schema" would hide a name of BaseModel
    version: Annotated[int, Field(alias="schema", ge=SCHEMA, le=SCHEMA)]
    resolutions: list[Resolution]
    files: dict[str, Hash]
    encoder: Encoder
    calibration: Calibration
    quality_order: list[tuple[Resolution, Ratio]]
    quality: list[Quality] | None = None
    provenance: dict[str, JsonValue]

    @model_validator(mode="after")
    def check(self) -> "Manifest":
        rising("resolutions", self.resolutions)
        if not set(self.resolutions) <= set(WIDTHS):
            raise ValueError("a resolution is not one of the network's blocks")
        if not NEEDED <= self.files.keys() <= KNOWN:
            raise ValueError("files names other files than agedit reads")
        offered = set(candidates(self.resolutions))
        named = {
            "quality_order": self.quality_order,
            "calibration.submodels": [(part.r, part.c) for part in self.calibration.submodels],
            "quality": [(part.r, part.c) for part in self.quality or ()] or list(offered),
        }
        for name, found in named.items():
            if len(found) != len(offered) or set(found) != offered:
                raise ValueError(f"{name} does not name every sub-model once")
        return self


def rising(name: str, values: list[Any]) -> None:
    """Raise ValueError unless `values` rise from each to the next, as interpolation wants it, and there is
    one.
    """
    if not values or any(a >= b for a, b in pairwise(values)):
        raise ValueError(f"{name} do not rise")


def unreadable(name: str, error: OSError) -> AgeEditError:
    """To be raised where the system refuses to read a file of the weights."""
    return AgeEditError(f"The weights cannot be read ({name}: {error.strerror}); check permissions.")


def damaged(why: str) -> AgeEditError:
    """To be raised where the weights are not what was released."""
    return AgeEditError(f"The weights are damaged ({why}); fetch the weights folder again.")


def read_file(folder: Path, name: str, most: int) -> bytes:
    """The bytes of a small file of the weights folder. Raises AgeEditError; never waits, as a pipe in a
    file's place would.
    """
    path = folder / name
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise damaged(f"{name} is not a file")
        if found.st_size > most:
            raise damaged(f"{name} is too large")
        return path.read_bytes()
    except FileNotFoundError:
        raise AgeEditError(
            f"The weights are missing: there is no {name}; fetch the weights folder again."
        ) from None
    except OSError as error:
        raise unreadable(name, error) from None


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a weights folder as data, its hash and its structure checked. Raises AgeEditError, in
    one sentence.
    """
    text = read_file(folder, MANIFEST, MOST_BYTES)
    pinned = read_file(folder, PIN, 1000)
    if pinned != pin_line(text):
        raise damaged(f"{MANIFEST} is not what {PIN} says")
    return parse(text)


def parse(text: bytes) -> dict[str, Any]:
    """The manifest's bytes as data, its structure checked. Raises AgeEditError."""
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise damaged(f"{MANIFEST} is not JSON") from None
    if not isinstance(data, dict):
        raise damaged(f"{MANIFEST} is not an object")
    version = data.get("schema")
    if isinstance(version, int) and not isinstance(version, bool) and version != SCHEMA:
        raise AgeEditError(
            f"The weights have another schema than this program reads ({SCHEMA}); update one of them."
        )
    try:
        # once more from the text: JSON has lists where Python has tuples, and pydantic knows the difference
        # by where it read
        Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"][:4]) or "a rule"
        raise damaged(f"{MANIFEST}: {place[:80]} is not as it should be") from None
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose keys are there once: of two, others would read the other one."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_number(name: str) -> None:
    """NaN and Infinity, which are not JSON."""
    raise ValueError(f"{name} is no number")


def pin_line(text: bytes) -> bytes:
    """The content of PIN for the manifest's bytes."""
    return f"{hashlib.sha256(text).hexdigest()}  {MANIFEST}\n".encode()


def write(folder: Path, text: str) -> None:
    """Write the manifest and its pin, each whole or not at all. Raises AgeEditError before it writes what
    could not be read again.
    """
    data = text.encode()
    parse(data)
    for name, content in ((MANIFEST, data), (PIN, pin_line(data))):
        temporary = folder / f".{name}.{os.getpid()}.tmp"
        temporary.write_bytes(content)
        os.replace(temporary, folder / name)
