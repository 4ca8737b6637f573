"""Everything that is loaded once and shared by all photos."""

import contextlib
import functools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from cv2.typing import MatLike

from agedit.align import Face, Neighbour, align
from agedit.covering import uncovered
from agedit.estimators import Estimators
from agedit.faces import DETECTOR_MODEL, FaceFinder
from agedit.hair import OuterHair
from agedit.light import ORDINARY, Light
from agedit.manifest import HAIR_MODEL
from agedit.masks import MASK_SIZE, VIEWS, Masker, own_share
from agedit.runtime import backends
from agedit.runtime.backends import Submodel, open_session, run_session, runtime_name
from agedit.runtime.generator_graph import generator_graph
from agedit.runtime.graphs import encoder_graph, map_features, photo_inputs
from agedit.runtime.host import give_back_memory, usable_cores
from agedit.runtime.pool import Pool
from agedit.runtime.precision import Judge, Precision, Verdict, reference_face
from agedit.weights import Weights

Picture = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]
Candidate = tuple[int, float]
"""A sub-model (r, c)."""

Loaded = TypeVar("Loaded")

REFERENCE_AGE = 30
"""Apparent age that the reference face is given when precisions are judged."""

_chosen: dict[str, Precision] = {}
"""By `Weights.hash`: pictures are judged once a process."""


class Masks(NamedTuple):
    """Where a change may show.

    mask: what may change in the aligned crop, float32 (256, 256) in 0..1.
    hair: how much of it is hair, alike.
    outer_hair: the hair beyond the crop.
    """

    mask: MatLike
    hair: MatLike
    outer_hair: OuterHair


class Engine:
    """E, the sub-models, landmarks, masks and estimators, each loaded on first use.

    Safe to share between threads. Sub-models stay open, so switching between those that ran before costs
    nothing.

    Args:
        weights: default: the released ones.
        threads: of every network; default: all usable cores, and for sub-models what the tuner finds best.
        workers: threads of the caller that are served at the same time; they share the weights. Others wait.
    """

    def __init__(self, weights: Weights | None = None, threads: int | None = None, workers: int = 1) -> None:
        self.weights = weights or Weights()
        self.cores = threads or usable_cores()
        """Threads of what is not a sub-model."""
        self.threads = self.cores
        """Threads of sub-models."""
        self.threads_fixed = threads is not None
        """Whether the caller named the threads, so that nobody tunes them."""
        self.workers = workers
        self._loaded: dict[str, Any] = {}
        self._submodels: dict[tuple[int, float, int], Submodel] = {}
        self._lock = threading.RLock()  # of what is loaded
        # of the face finder and the hair network, which keep state
        self._finders = Pool(functools.partial(_open_finder, self.weights), workers)
        self._maskers = Pool(functools.partial(_open_masker, self.weights), workers)

    # --- the chain -------------------------------------------------------------------------------------

    def find_faces(self, rgb: Picture) -> list[Face]:
        """S61: all faces of RGB uint8 (H, W, 3), largest first (see `faces.FaceFinder.find`)."""
        with self._finders.taken() as finder:
            try:
                return finder.find(rgb)
            finally:
                give_back_memory()

    def encode(self, crop: Picture) -> Array:
        """S62: f = E(x), float32 (1, 512), for an aligned RGB uint8 (S, S, 3)."""
        session = self._get("encoder", self._open_encoder)
        size = self.weights.manifest["encoder"]["input"]
        return run_session(session, {"photo": to_network(crop, size)})

    def generate(self, f: Array, photos: Mapping[str, Array], r: int, c: float) -> Array:
        """S64: G_{r,c}(f, photo), float32 (r, r, 3) in about -1..1.

        Args:
            f: (1, 512), shifted or not.
            photos: see `inputs`; in the strict form see `sketch`.
        """
        w = map_features(self._part("generator.mapping"), f)
        picture = self.submodel(r, c)({"w": w, **photos})
        return picture[0].transpose(1, 2, 0)

    @staticmethod
    def inputs(crop: Picture, r: int) -> dict[str, Array]:
        """The photo as every G_{r,c} reads it (see `graphs.photo_inputs`), from an aligned crop."""
        return photo_inputs(to_network(crop, r))

    def sketch(self, f: Array, r: int) -> dict[str, Array]:
        """What G_{r,c} reads instead of a photo in the strict form, as `inputs`.

        It is the 32 px picture that f (1, 512), unshifted, gives by a linear layer.
        """
        layer = self._part("sketch")
        flat = (layer["weight"] @ f[0] + layer["bias"]).reshape(3, -1)
        edge = round(flat.shape[1] ** 0.5)
        small = flat.reshape(3, edge, edge).transpose(1, 2, 0)
        picture = cv2.resize(small, (r, r), interpolation=cv2.INTER_CUBIC)
        return photo_inputs(np.clip(picture, -1, 1).transpose(2, 0, 1)[None])

    def masks(
        self,
        crop: Picture,
        face: Face,
        rgb: Picture,
        others: Sequence[Face] = (),
        light: Light = ORDINARY,
    ) -> Masks:
        """Where a change of one face may show.

        Args:
            crop: `face` aligned, of the photo `rgb`, as in ordinary light.
            others: the photo's other faces, whose hair is not this one's.
            light: the photo's.
        """
        heads: list[Face | Neighbour] = [*others, *face.neighbours]
        views = {edge: light.standard(align(rgb, face.widened(edge), MASK_SIZE)) for edge in VIEWS}
        small = cv2.resize(crop, (MASK_SIZE, MASK_SIZE), interpolation=cv2.INTER_AREA)
        shows = uncovered(small.astype(np.uint8, copy=False), face.in_square(MASK_SIZE))
        with self._maskers.taken() as masker:
            hair, wide = masker.own_hair(crop, views, face)
            hair = hair * own_share(face, face, heads, MASK_SIZE) * shows
            mask = masker.mask(hair, face, rgb.shape[:2]) * shows
        return Masks(mask, hair, OuterHair(rgb, face, mask, hair, wide, heads, light))

    @property
    def readout(self) -> Estimators:
        """Apparent age, gender, expression and identity of an aligned face."""
        return self._get("readout", self._open_estimators)

    # --- sub-models ------------------------------------------------------------------------------------

    def submodel(self, r: int, c: float) -> Submodel:
        """G_{r,c} without its mapping network, as a function of {"w": ..., "photo_8": ..., ...}.

        Sliced out of the full generator and opened on first use (S25 to S28).
        """
        threads = self.threads
        precision = self.precision
        key = (r, c, threads)
        with self._lock:
            if key not in self._submodels:
                ranges = self.weights.ranges(r, c) if precision == "i8" else None
                graph = generator_graph(self.weights.part("generator"), r, c, ranges, mapped=True)
                self._submodels[key] = backends.open_submodel(graph, threads, precision, self.workers)
                give_back_memory()
            return self._submodels[key]

    def use_threads(self, threads: int) -> None:
        """Run sub-models with this many threads from now on.

        Those opened for another count stay until `drop_other_threads`.
        """
        with self._lock:
            self.threads = threads

    def drop_other_threads(self) -> None:
        """Free the sub-models that were opened for another number of threads."""
        self._free(lambda key: key[2] != self.threads)

    def keep_submodels(self, candidates: Collection[Candidate]) -> None:
        """Free all sub-models but these: each holds 17 to 90 MB, and is opened again in 0.2 to 0.6 s."""
        self._free(lambda key: key[:2] not in candidates)

    @contextlib.contextmanager
    def passing(self, candidates: Collection[Candidate]) -> Iterator[None]:
        """While entered, these sub-models may be opened; those not open before are freed at the end."""
        with self._lock:
            before = set(self._submodels)
        try:
            yield
        finally:
            self._free(lambda key: key not in before and key[:2] in candidates)

    def _free(self, unwanted: Callable[[tuple[int, float, int]], bool]) -> None:
        """Free the sub-models whose (r, c, threads) are `unwanted`."""
        with self._lock:
            for key in list(filter(unwanted, self._submodels)):
                del self._submodels[key]
            give_back_memory()

    # --- precision -------------------------------------------------------------------------------------

    @property
    def precision(self) -> str:
        """What sub-models compute in: the name of `chosen_precision`."""
        return self.chosen_precision.name

    @property
    def runtime(self) -> str:
        """What timings of this engine's sub-models depend on (see `runtime_name`)."""
        chosen = self.chosen_precision
        return runtime_name(chosen.name, chosen.openvino)

    @property
    def chosen_precision(self) -> Precision:
        """The quickest precision whose pictures are right with these weights on this processor."""
        with self._lock:
            if not backends.uses_openvino():
                return Precision("f32", "ONNX Runtime computes in fp32.", openvino=False)
            if self.weights.hash not in _chosen:
                _chosen[self.weights.hash] = self._judge().choose()
                give_back_memory()
            return _chosen[self.weights.hash]

    def judge(self, precision: str) -> Verdict:
        """Whether a sub-model's pictures are right in "i8", "bf16" or "f16", and why.

        The smallest one draws the reference face, as it is and at the slider's end; ONNX Runtime in fp32 says
        what is right, and of int8 what rounding alone costs.
        """
        return self._judge().judge(precision)

    def _judge(self) -> Judge:
        r, c = self.weights.smallest
        return Judge(self.weights, (r, c), self.threads, self._reference_feeds(r, c))

    def _reference_feeds(self, r: int, c: float) -> list[Mapping[str, Array]]:
        """Inputs of G_{r,c} (see `submodel`) for the reference face, as it is and at the slider's end."""
        crop = reference_face()
        f = self.encode(crop)
        calibration = self.weights.calibration
        _, oldest = calibration.years_range
        alpha = np.float32(calibration.alpha(oldest, REFERENCE_AGE, 0, r, c))
        shifted = f + alpha * self.weights.age_vector[None]
        photos = self.inputs(crop, r)
        mapping = self._part("generator.mapping")
        return [{"w": map_features(mapping, features), **photos} for features in (f, shifted)]

    # --- what is loaded --------------------------------------------------------------------------------

    def _get(self, key: str, load: Callable[[], Loaded]) -> Loaded:
        """What was loaded under this name, by `load` on first use."""
        with self._lock:
            if key not in self._loaded:
                self._loaded[key] = load()
                give_back_memory()
            return self._loaded[key]

    def _part(self, prefix: str) -> dict[str, Array]:
        """A small part of the weights in float32, kept (see `Weights.part`)."""

        def load() -> dict[str, Array]:
            return {name: np.asarray(v, np.float32) for name, v in self.weights.part(prefix).items()}

        return self._get(prefix, load)

    def _open_encoder(self) -> Any:
        encoder = self.weights.manifest["encoder"]
        graph = encoder_graph(self.weights.part("encoder"), encoder["convolutions"], encoder["input"])
        return open_session(graph, self.cores)

    def _open_estimators(self) -> Estimators:
        return Estimators(lambda name: open_session(self.weights.path(name), self.cores))


def _open_finder(weights: Weights) -> FaceFinder:
    return FaceFinder(weights.path(DETECTOR_MODEL).parent)


def _open_masker(weights: Weights) -> Masker:
    return Masker(weights.path(HAIR_MODEL).parent)


def to_network(crop: Picture, size: int) -> Array:
    """Aligned RGB uint8 (S, S, 3) to float32 (1, 3, size, size) in -1..1, shrunk by areas."""
    edge = crop.shape[0]
    if edge != size:
        method = cv2.INTER_AREA if edge > size else cv2.INTER_CUBIC
        crop = cv2.resize(crop, (size, size), interpolation=method).astype(np.uint8, copy=False)
    return (crop.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
