"""S6: set a photo once, edit it as often as the slider moves."""

import time
from dataclasses import dataclass, field

import cv2
import numpy as np

from agedit.align import align
from agedit.blend import add_change, add_change_to_crop
from agedit.engine import Engine
from agedit.errors import AgeEditError
from agedit.estimators import SAME_PERSON, identity
from agedit.tone import Tone, photo_blur

CROP = 256  # pixels of the aligned face that is kept beside the photo, at least
AGES = (1, 95)  # apparent ages that an edit may ask for


@dataclass
class Edit:
    """One result.

    picture: RGB uint8, the full photo (H, W, 3), or (r, r, 3) G(f') itself in the strict form.
    changes: {face: float32 (s, s, 3), s = max(r, 256), G(f') - G(f) as `tone.Tone` shows it, in units of 0..255, in the reference position}.
    years: {face: change asked}. submodel: (r, c). ms: {stage: milliseconds}. strict: whether it is the strict form.
    """

    picture: np.ndarray
    changes: dict
    years: dict
    submodel: tuple
    ms: dict = field(default_factory=dict)
    strict: bool = False


class _Prepared:
    """One face, aligned and encoded; its unshifted pictures G_{r,c}(f) are kept for the next slider move."""

    def __init__(self, engine, rgb, face, others=()):
        self.face = face
        size = max(CROP, engine.weights.resolutions[-1])
        self.crop = align(rgb, face, size)
        self.mask, self.hair, self.beyond = engine.masks(self.crop, face, rgb, others)
        self.f, (self.age, _), self.blur = (
            engine.encode(self.crop),
            engine.readout.age(self.crop),
            photo_blur(self.crop),
        )
        self.photos, self.base, self.tones, self.embedding = {}, {}, {}, None

    def paste(self, picture, photo, change, shape):
        """`picture`, an edit of `photo` or the photo itself, with this face's change too: a new array. shape: of the photo that the face was found in."""
        picture, beyond = (
            add_change(picture, change, self.mask, self.face.scaled(shape, photo.shape)),
            self.beyond,
        )
        if beyond.exists:
            beyond.add(picture, photo, beyond.tone(change), beyond.face.scaled(shape, photo.shape))
        return picture

    def shown(self, crop, change):
        """An aligned crop, RGB uint8 (S, S, 3), with a change (see `Edit.changes`): a new array."""
        picture = add_change_to_crop(crop, change, self.mask)
        if self.beyond.exists:
            self.beyond.add(picture, crop, self.beyond.tone(change), self.beyond.in_crop(crop.shape[0]))
        return picture

    def tone(self, r):
        """The photo's `tone.Tone` for pictures of r pixels."""
        if r not in self.tones:
            self.tones[r] = Tone(self.crop, self.mask, self.hair, r, self.blur)
        return self.tones[r]


class AgeEditor:
    """Edits ages in one photo.

        editor = AgeEditor()
        editor.set_photo(rgb)
        older = editor.edit(years=+20).picture

    Args:
        engine: a `runtime.Engine` to share between editors; default: one of its own.
        submodel: (r, c) used when `edit` names none; default: the best by measured quality.
    """

    def __init__(self, engine=None, submodel=None):
        self.engine = engine or Engine()
        self.submodel = submodel or self.engine.weights.order[0]
        self.rgb, self.faces, self._found, self._prepared, self._views = None, [], [], {}, {}

    def set_photo(self, rgb):
        """Find the faces (S61). The largest usable face is aligned and encoded (S62) at once, others when edited.

        Args:
            rgb: uint8 (H, W, 3), as `photo.load_photo` returns it.

        Returns:
            ms by stage. Raises AgeEditError (and keeps the photo set before) without a usable face.
        """
        if not (
            isinstance(rgb, np.ndarray) and rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3
        ):
            raise AgeEditError("A photo must be an RGB array of type uint8 and shape (height, width, 3).")
        start = time.perf_counter()
        found = self.engine.find_faces(rgb)
        faces = [face for face in found if not face.reason_to_refuse()]
        if not faces:
            raise AgeEditError(found[0].reason_to_refuse())
        middle = time.perf_counter()
        prepared = {0: _Prepared(self.engine, rgb, faces[0], [f for f in found if f is not faces[0]])}
        self.rgb, self.faces, self._found, self._prepared, self._views = rgb, faces, found, prepared, {}
        return {"find": (middle - start) * 1e3, "encode": (time.perf_counter() - middle) * 1e3}

    def forget(self):
        """Keep the photo and its faces, drop what the next edit can make again: some 40 MB a face at 512 px."""
        self._prepared, self._views = {}, {}

    def view(self, limit=None):
        """The photo, its longer side shrunk to `limit` pixels at most."""
        height, width = self.rgb.shape[:2]
        scale = limit / max(height, width) if limit else 1
        if scale >= 1:
            return self.rgb
        if limit not in self._views:
            size = max(1, round(width * scale)), max(1, round(height * scale))
            self._views[limit] = cv2.resize(self.rgb, size, interpolation=cv2.INTER_AREA)
        return self._views[limit]

    def edit(self, years, face=0, submodel=None, strict=False, limit=None):
        """Shift and generate (S63, S64), then add the change to the photo.

        Args:
            years: change in years, + is older. face: index into `faces`, or "all"; or years is {face: years}.
            submodel: (r, c). strict: return G(f') alone, the patent's own form, with no photo as input.

            limit: shrink the picture's longer side to this many pixels, for a quick look.

        Returns:
            Edit. At 0 years the picture equals the photo bit for bit (not in the strict form).
        """
        if self.rgb is None:
            raise AgeEditError("There is no photo yet; call set_photo first.")
        r, c = submodel or self.submodel
        if (r, c) not in self.engine.weights.candidates:
            raise AgeEditError(f"There is no sub-model {r}:{c}; `python -m agedit info` lists them.")
        wanted = years if isinstance(years, dict) else dict.fromkeys(self.indices(face), years)
        if strict and len(wanted) > 1:
            raise AgeEditError("The strict form shows one face alone; name one face by its number.")
        low, high = self.engine.weights.years_range
        for value in wanted.values():
            if not (isinstance(value, (int, float)) and low <= value <= high):
                raise AgeEditError(
                    f"{value} years is out of range; choose a change between {low} and {high} years."
                )
        photo = picture = self.view(limit)
        changes, ms = {}, {"generate": 0.0, "blend": 0.0}
        for index, value in wanted.items():
            prepared = self.prepare(index)
            start = time.perf_counter()
            if strict:
                face = self._run(prepared, value, r, c, strict=True)
                picture = np.clip(np.rint((face + 1) * 127.5), 0, 255).astype(np.uint8)
            elif value != 0:
                changes[index] = self.change(value, index, (r, c))
            middle = time.perf_counter()
            if index in changes:
                picture = prepared.paste(picture, photo, changes[index], self.rgb.shape)
            ms["generate"] += (middle - start) * 1e3
            ms["blend"] += (time.perf_counter() - middle) * 1e3
        return Edit(photo.copy() if picture is photo else picture, changes, wanted, (r, c), ms, strict)

    def change(self, years, face=0, submodel=None):
        """G(f') - G(f), the photo's colours kept (`tone.Tone`): float32 (s, s, 3), s = max(r, 256), in units of 0..255, in the reference position (see `blend.add_change`)."""
        prepared, (r, c) = self.prepare(face), submodel or self.submodel
        return prepared.tone(r)((self._run(prepared, years, r, c) - self._base(prepared, r, c)) * 127.5)

    def prepare(self, index, submodel=None):
        """Align and encode a face now, and with `submodel` run G_{r,c}(f), so that its first edit is quick."""
        if index not in range(len(self.faces)):
            raise AgeEditError(f"There is no face {index}; the photo has {len(self.faces)}, counted from 0.")
        if index not in self._prepared:
            self._prepared[index] = _Prepared(
                self.engine,
                self.rgb,
                self.faces[index],
                [f for f in self._found if f is not self.faces[index]],
            )
        if submodel:
            self._base(self._prepared[index], *submodel), self._prepared[index].tone(submodel[0])
        return self._prepared[index]

    def crop(self, edit, index=0):
        """The aligned face after an edit, RGB uint8 (S, S, 3)."""
        if edit.strict:
            return edit.picture
        prepared = self.prepare(index)
        if index not in edit.changes:
            return prepared.crop
        return prepared.shown(prepared.crop, edit.changes[index])

    def age(self, edit, index=0):
        """Judged age of one face after an edit, in years."""
        return self.engine.readout.age(self.crop(edit, index))[0]

    def read(self, edit, index=0):
        """{"age_before", "age_after", "identity" (cosine), "identity_l2", "same_person"} of one face of an edit."""
        readout = self.engine.readout
        prepared = self.prepare(index)
        if prepared.embedding is None:
            prepared.embedding = readout.embed(prepared.crop)
        age, embedding = prepared.age, prepared.embedding
        after = self.crop(edit, index)
        distance, cosine = identity(embedding, readout.embed(after))
        return {
            "age_before": round(age, 1),
            "age_after": round(readout.age(after)[0], 1),
            "identity": round(cosine, 4),
            "identity_l2": round(distance, 4),
            "same_person": distance < SAME_PERSON,
        }

    def indices(self, face):
        """Face numbers meant by `face`, a number or "all"."""
        return range(len(self.faces)) if face == "all" else [face]

    def _run(self, prepared, years, r, c, strict=False):
        weights = self.engine.weights
        alpha = weights.alpha(years, prepared.age, prepared.blur, r, c)
        shifted = prepared.f + np.float32(alpha) * weights.age_vector[None]  # S63
        if strict:
            return self.engine.generate(shifted, self.engine.sketch(prepared.f, r), r, c)
        if r not in prepared.photos:
            prepared.photos[r] = self.engine.inputs(prepared.crop, r)
        return self.engine.generate(shifted, prepared.photos[r], r, c)  # S64

    def _base(self, prepared, r, c):
        if (r, c) not in prepared.base:
            prepared.base[r, c] = self._run(prepared, 0, r, c)
        return prepared.base[r, c]
