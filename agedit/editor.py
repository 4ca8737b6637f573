"""S6: set a photo once, edit it as often as the slider moves."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, Literal, TypedDict

import cv2
import numpy as np
import numpy.typing as npt

from agedit.align import Face, align
from agedit.blend import add_change, add_change_to_crop
from agedit.engine import Engine
from agedit.errors import AgeEditError
from agedit.estimators import SAME_PERSON, identity
from agedit.light import light_of
from agedit.masks import MASK_SIZE, WIDE
from agedit.tone import Tone, photo_blur

Picture = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]
Submodel = tuple[int, float]
"""(r, c)."""

Years = float | Mapping[int, float]
"""A change of age in years, or one for each face by its number."""

CROP = 256
"""Pixels of the aligned face that is kept beside the photo, at least."""


@dataclass(frozen=True)
class Edit:
    """One result.

    picture: RGB uint8, the full photo (H, W, 3), or G(f') itself, (r, r, 3), in the strict form.
    changes: by face, G(f') - G(f) as `tone.Tone` shows it: float32 (s, s, 3), s = max(r, 256), in levels of
        255, in the reference position. Faces whose age stays are not in it.
    years: by face, the change that was asked for.
    submodel: (r, c).
    ms: milliseconds by stage, "generate" and "blend".
    strict: whether it is the strict form.
    """

    picture: Picture
    changes: dict[int, Array]
    years: dict[int, float]
    submodel: Submodel
    ms: dict[str, float] = field(default_factory=dict)
    strict: bool = False


class Reading(TypedDict):
    """What the estimators say of one face before and after an edit."""

    age_before: float
    """Apparent age in years."""
    age_after: float
    identity: float
    """Cosine of both identity embeddings, -1..1."""
    identity_l2: float
    """Distance of both embeddings."""
    same_person: bool


class _Prepared:
    """One face, aligned and encoded; what its next edit needs again is kept.

    `crop` is the photo's; what networks see of it, and the changes that they draw, are in ordinary light.
    """

    def __init__(self, engine: Engine, rgb: Picture, face: Face, others: Sequence[Face] = ()) -> None:
        self.engine = engine
        self.face = face
        self.crop = align(rgb, face, max(CROP, engine.weights.resolutions[-1]))
        self.light = light_of(self.crop, align(rgb, face.widened(WIDE), MASK_SIZE), face)
        self.seen = self.light.standard(self.crop)
        self.mask, self.hair, self.beyond = engine.masks(self.seen, face, rgb, others, self.light)
        self.f = engine.encode(self.seen)
        self.age, _ = engine.readout.age(self.seen)
        self.blur = photo_blur(self.seen)
        self._photos: dict[int, dict[str, Array]] = {}
        self._base: dict[Submodel, Array] = {}
        self._tones: dict[int, Tone] = {}
        self._embedding: Array | None = None

    def generate(self, years: float, submodel: Submodel, strict: bool = False) -> Array:
        """G_{r,c}(f + alpha n, photo), float32 (r, r, 3) in about -1..1.

        Args:
            strict: with the picture that f itself gives instead of the photo (see `Engine.sketch`).
        """
        r, c = submodel
        weights = self.engine.weights
        alpha = weights.calibration.alpha(years, self.age, self.blur, r, c)
        shifted = self.f + np.float32(alpha) * weights.age_vector[None]  # S63
        photos = self.engine.sketch(self.f, r) if strict else self._inputs(r)
        return self.engine.generate(shifted, photos, r, c)  # S64

    def base(self, submodel: Submodel) -> Array:
        """G_{r,c}(f), the unshifted picture, kept for the next slider move."""
        if submodel not in self._base:
            self._base[submodel] = self.generate(0, submodel)
        return self._base[submodel]

    def tone(self, r: int) -> Tone:
        """What shows changes of r pixels in this photo."""
        if r not in self._tones:
            self._tones[r] = Tone(self.seen, self.mask, self.hair, r, self.blur)
        return self._tones[r]

    def as_shown(self, change: Array) -> Array:
        """A generated change, float32 (r, r, 3) in levels of 255, as this photo shows it."""
        return self.light.shown(self.tone(len(change))(change))

    def embedding(self) -> Array:
        """Identity embedding (128,) of the face as it is."""
        if self._embedding is None:
            self._embedding = self.engine.readout.embed(self.crop)
        return self._embedding

    def paste(self, picture: Picture, photo: Picture, change: Array, shape: tuple[int, ...]) -> Picture:
        """A new array: `picture` with this face's change too.

        Args:
            picture: an edit of `photo`, or the photo itself.
            shape: of the photo that the face was found in, (H, W, ...); `photo` may be a smaller view.
        """
        picture = add_change(picture, change, self.mask, self.face.scaled(shape, photo.shape))
        if self.beyond.exists:
            tone = self.beyond.tone(change)
            self.beyond.add(picture, photo, tone, self.beyond.face.scaled(shape, photo.shape))
        return picture

    def shown(self, crop: Picture, change: Array) -> Picture:
        """A new array: an aligned crop, RGB uint8 (S, S, 3), with a change (see `Edit.changes`)."""
        picture = add_change_to_crop(crop, change, self.mask)
        if self.beyond.exists:
            self.beyond.add(picture, crop, self.beyond.tone(change), self.beyond.in_crop(crop.shape[0]))
        return picture

    def _inputs(self, r: int) -> dict[str, Array]:
        if r not in self._photos:
            self._photos[r] = self.engine.inputs(self.seen, r)
        return self._photos[r]


class AgeEditor:
    """Edits ages in one photo.

        editor = AgeEditor()
        editor.set_photo(rgb)
        older = editor.edit(years=+20).picture

    Args:
        engine: an `Engine` to share between editors; default: one of its own.
        submodel: (r, c) used when `edit` names none; default: the best by measured quality.
    """

    def __init__(self, engine: Engine | None = None, submodel: Submodel | None = None) -> None:
        self.engine = engine or Engine()
        self.submodel = submodel or self.engine.weights.best
        self.rgb: Picture | None = None
        self.faces: list[Face] = []
        """Those that can be edited, largest first."""
        self._found: list[Face] = []
        self._prepared: dict[int, _Prepared] = {}
        self._views: dict[int, Picture] = {}

    def set_photo(self, rgb: Picture) -> dict[str, float]:
        """Find the faces (S61); align and encode the largest usable one (S62), others when they are edited.

        Args:
            rgb: uint8 (H, W, 3), as `photo.load_photo` returns it.

        Returns:
            Milliseconds by stage, "find" and "encode".

        Raises:
            AgeEditError: there is no usable face; the photo set before stays.
        """
        _check_photo(rgb)
        start = time.perf_counter()
        found = self.engine.find_faces(rgb)
        faces = [face for face in found if not face.reason_to_refuse()]
        if not faces:
            raise AgeEditError(found[0].reason_to_refuse())
        middle = time.perf_counter()
        prepared = _Prepared(self.engine, rgb, faces[0], _all_but(found, faces[0]))
        self.rgb = rgb
        self.faces = faces
        self._found = found
        self._prepared = {0: prepared}
        self._views = {}
        return {"find": (middle - start) * 1e3, "encode": (time.perf_counter() - middle) * 1e3}

    def view(self, limit: int | None = None) -> Picture:
        """The photo, its longer side at most `limit` pixels. Raises AgeEditError without a photo."""
        photo = self._photo()
        height, width = photo.shape[:2]
        scale = limit / max(height, width) if limit else 1
        if limit is None or scale >= 1:
            return photo
        if limit not in self._views:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
            self._views[limit] = small.astype(np.uint8, copy=False)
        return self._views[limit]

    def edit(
        self,
        years: Years,
        face: int | Literal["all"] = 0,
        submodel: Submodel | None = None,
        strict: bool = False,
        limit: int | None = None,
    ) -> Edit:
        """Shift and generate (S63, S64), then add the change to the photo.

        At 0 years the picture equals the photo bit for bit (not in the strict form).

        Args:
            years: change in years, + is older; or {face: years}.
            face: index into `faces`, or "all"; not read where `years` names the faces.
            submodel: (r, c).
            strict: return G(f') alone, the patent's own form, with no photo as input.
            limit: shrink the picture's longer side to this many pixels, for a quick look.

        Raises:
            AgeEditError: no photo, or no such face, sub-model or years.
        """
        photo = self.view(limit)
        r, c = submodel or self.submodel
        submodel = (r, c)
        wanted = self._wanted(years, face)
        self._check(wanted, submodel, strict)
        if strict:
            return self._strict(wanted, submodel, photo)
        picture = photo
        changes: dict[int, Array] = {}
        ms = {"generate": 0.0, "blend": 0.0}
        for index, value in wanted.items():
            prepared = self.prepare(index)
            if value == 0:
                continue
            start = time.perf_counter()
            changes[index] = self.change(value, index, submodel)
            middle = time.perf_counter()
            picture = prepared.paste(picture, photo, changes[index], self._photo().shape)
            ms["generate"] += (middle - start) * 1e3
            ms["blend"] += (time.perf_counter() - middle) * 1e3
        return Edit(photo.copy() if picture is photo else picture, changes, wanted, submodel, ms)

    def _strict(self, wanted: dict[int, float], submodel: Submodel, photo: Picture) -> Edit:
        """G(f') of one face as a picture; the photo itself where no face is named."""
        picture = photo.copy()
        ms = {"generate": 0.0, "blend": 0.0}
        for index, value in wanted.items():
            prepared = self.prepare(index)
            start = time.perf_counter()
            generated = prepared.generate(value, submodel, strict=True)
            picture = np.clip(np.rint((generated + 1) * 127.5), 0, 255).astype(np.uint8)
            ms["generate"] = (time.perf_counter() - start) * 1e3
        return Edit(picture, {}, wanted, submodel, ms, strict=True)

    def change(self, years: float, face: int = 0, submodel: Submodel | None = None) -> Array:
        """G(f') - G(f) as it is shown of one face (see `Edit.changes`)."""
        submodel = submodel or self.submodel
        prepared = self.prepare(face)
        change = prepared.generate(years, submodel) - prepared.base(submodel)
        return prepared.as_shown(change * 127.5)

    def prepare(self, index: int, submodel: Submodel | None = None) -> _Prepared:
        """Align and encode a face, and with `submodel` run G_{r,c}(f), so that its first edit is quick."""
        if index not in range(len(self.faces)):
            raise AgeEditError(f"There is no face {index}; the photo has {len(self.faces)}, counted from 0.")
        if index not in self._prepared:
            face = self.faces[index]
            others = _all_but(self._found, face)
            self._prepared[index] = _Prepared(self.engine, self._photo(), face, others)
        prepared = self._prepared[index]
        if submodel:
            prepared.base(submodel)
            prepared.tone(submodel[0])
        return prepared

    def crop(self, edit: Edit, index: int = 0) -> Picture:
        """The aligned face after an edit, RGB uint8 (S, S, 3)."""
        if edit.strict:
            return edit.picture
        prepared = self.prepare(index)
        if index not in edit.changes:
            return prepared.crop
        return prepared.shown(prepared.crop, edit.changes[index])

    def age(self, edit: Edit, index: int = 0) -> float:
        """Apparent age of one face after an edit, in years."""
        light = self.prepare(index).light
        return self.engine.readout.age(light.standard(self.crop(edit, index)))[0]

    def read(self, edit: Edit, index: int = 0) -> Reading:
        """Apparent age and identity of one face before and after an edit."""
        readout = self.engine.readout
        prepared = self.prepare(index)
        before = prepared.embedding()
        after = self.crop(edit, index)
        distance, cosine = identity(before, readout.embed(after))
        return {
            "age_before": round(prepared.age, 1),
            "age_after": round(readout.age(prepared.light.standard(after))[0], 1),
            "identity": round(cosine, 4),
            "identity_l2": round(distance, 4),
            "same_person": distance < SAME_PERSON,
        }

    def indices(self, face: int | Literal["all"]) -> Sequence[int]:
        """Face numbers meant by `face`, a number or "all"."""
        return range(len(self.faces)) if face == "all" else [face]

    def _photo(self) -> Picture:
        if self.rgb is None:
            raise AgeEditError("There is no photo yet; call set_photo first.")
        return self.rgb

    def _wanted(self, years: Years, face: int | Literal["all"]) -> dict[int, float]:
        """{face: years}. Raises AgeEditError for years that are no number, or beyond the slider."""
        asked = years if isinstance(years, Mapping) else dict.fromkeys(self.indices(face), years)
        wanted = {}
        for index, value in asked.items():
            self.engine.weights.calibration.check(value)
            wanted[index] = int(value) if isinstance(value, Integral) else float(value)
        return wanted

    def _check(self, wanted: dict[int, float], submodel: Submodel, strict: bool) -> None:
        """Raise AgeEditError where there is no such sub-model, or too many faces for the strict form."""
        r, c = submodel
        if submodel not in self.engine.weights.candidates:
            raise AgeEditError(f"There is no sub-model {r}:{c}; `python -m agedit info` lists them.")
        if strict and len(wanted) > 1:
            raise AgeEditError("The strict form shows one face alone; name one face by its number.")


def _check_photo(rgb: Any) -> None:
    """Raise AgeEditError for anything but uint8 (H, W, 3)."""
    is_array = isinstance(rgb, np.ndarray) and rgb.dtype == np.uint8
    if not (is_array and rgb.ndim == 3 and rgb.shape[2] == 3):
        raise AgeEditError("A photo must be an RGB array of type uint8 and shape (height, width, 3).")


def _all_but(faces: list[Face], face: Face) -> list[Face]:
    return [other for other in faces if other is not face]
