"""Stage `age-vector` (S3, S5).

A linear SVM on E's features tells over from under 45; its coefficients are n.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.svm import LinearSVC

from agedit.errors import AgeEditError
from agedit.network.autoencoder import FEATURES, INPUT, Autoencoder, Encoder, Sketch
from agedit.training.common import AGE_VECTOR_FILE, AUTOENCODER_FILE, Device, load_checkpoint, place
from agedit.training.data import Crops
from agedit.training.images import batch_of, shrink

# Years that divide the two classes (S12); exactly so many have no label.
BOUNDARY = 45
# Pictures that E sees at once, about.
TOGETHER = 64
# Held-out photos that a judgement needs at least.
LEAST_HELD_OUT = 10


def load_encoder(run: str | Path) -> tuple[Encoder, Sketch]:
    """The finished E of a run folder, in evaluation mode, and the sketch of its features."""
    state = load_checkpoint(Path(run) / AUTOENCODER_FILE)
    if not state or not state.get("finished"):
        raise AgeEditError(f"There is no finished autoencoder in {run}; run the autoencoder stage first.")
    model = Autoencoder()
    try:
        model.load_state_dict(state["model"])
    except RuntimeError:
        raise AgeEditError(
            f"The autoencoder in {run} is of another version of this program; train it again."
        ) from None
    model.eval().requires_grad_(False)
    return place(model.encoder, "cpu"), model.sketch


def load_age_vector(run: str | Path) -> torch.Tensor:
    """n (512,) of a run folder."""
    path = Path(run) / AGE_VECTOR_FILE
    if not path.exists():
        raise AgeEditError(f"There is no age vector in {run}; run the age-vector stage first.")
    return torch.from_numpy(np.load(path)["n"]).float()


def features_of(
    encoder: Encoder, crops: Crops, indices: npt.NDArray[np.integer[Any]], device: torch.device | str
) -> npt.NDArray[np.float32]:
    """E's features (N, 512) of some crops, whatever their size."""
    encoder = encoder.to(device)
    result = []
    for part in np.array_split(indices, max(1, len(indices) // TOGETHER)):
        if not len(part):
            continue
        x = shrink(batch_of(crops.images, part, device)[0], INPUT)
        with torch.no_grad():
            result.append(encoder(x).cpu().numpy())
    return np.concatenate(result) if result else np.zeros((0, FEATURES), np.float32)


def auc(truth: npt.NDArray[np.bool_], score: npt.NDArray[np.floating[Any]]) -> float | None:
    """Area under the ROC curve, or None where one class is missing."""
    if len(set(truth)) != 2:
        return None
    return round(float(roc_auc_score(truth, score)), 4)


@dataclass
class LabelledFeatures:
    """E's features x (N, 512), whether each is over BOUNDARY (N,), and its gender (N,), 1 female."""

    x: npt.NDArray[np.float32]
    is_over: npt.NDArray[np.bool_]
    gender: npt.NDArray[np.float64]


def _labelled(
    sets: Sequence[Crops], held_out: bool, encoder: Encoder, device: torch.device
) -> LabelledFeatures:
    """Everybody with an age that is trained on, or the labelled photos that are held out."""
    x = [np.zeros((0, FEATURES), np.float32)]
    is_over = [np.zeros(0, bool)]
    gender = [np.zeros(0)]
    for crops in sets:
        if held_out:
            index = crops.photos(True)
        else:
            index = np.flatnonzero(~crops.held_out & ~np.isnan(crops.age))
        index = index[crops.age[index] != BOUNDARY]
        x.append(features_of(encoder, crops, index, device))
        is_over.append(crops.age[index] > BOUNDARY)
        gender.append(crops.gender[index])
    return LabelledFeatures(np.concatenate(x), np.concatenate(is_over), np.concatenate(gender))


def _even_weights(is_over: npt.NDArray[np.bool_], gender: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights (N,) by which each gender weighs the same in both classes, so that n means age alone."""
    weight = np.ones(len(is_over))
    for label in (0, 1):
        for g in (0, 1):
            cell = (is_over == label) & (gender == g)
            weight[cell] = len(is_over) / (4 * max(1, cell.sum()))
    return weight


def train_age_vector(data: Sequence[str | Path], run: str | Path, c: float = 2e-4) -> dict[str, Any]:
    """Fit on training people, judge on held-out photos, write `age_vector.npz` and `age_vector.json`.

    Args:
        data: prepared folders. run: folder with the finished autoencoder. c: the SVM's C.

    Returns:
        {"balanced_accuracy", "auc", "train", "held_out", ...} on held-out labelled photos.
    """
    device = Device().torch
    encoder, _ = load_encoder(run)
    run = Path(run)
    sets = [Crops(folder) for folder in data]
    training = _labelled(sets, False, encoder, device)
    test = _labelled(sets, True, encoder, device)
    has_both = len(set(test.is_over)) == 2 and len(set(training.is_over)) == 2
    if len(test.is_over) < LEAST_HELD_OUT or not has_both:
        raise AgeEditError(
            "The age vector needs labelled photos on both sides of 45, at least 10 of them held out; "
            "prepare more photos."
        )
    svm = LinearSVC(C=c, dual="auto", max_iter=5000, intercept_scaling=10)
    svm.fit(training.x, training.is_over, _even_weights(training.is_over, training.gender))
    n = svm.coef_[0] / np.linalg.norm(svm.coef_)
    score = svm.decision_function(test.x)
    women = test.gender == 1
    men = test.gender == 0
    report = {
        "balanced_accuracy": round(float(balanced_accuracy_score(test.is_over, score > 0)), 4),
        "accuracy": round(float(np.mean((score > 0) == test.is_over)), 4),
        "auc": auc(test.is_over, score),
        "train": len(training.is_over),
        "held_out": len(test.is_over),
        "auc_women": auc(test.is_over[women], score[women]),
        "auc_men": auc(test.is_over[men], score[men]),
        "spread": round(float((training.x @ n).std()), 4),
        "c": c,
    }
    np.savez(run / AGE_VECTOR_FILE, n=n.astype(np.float32))
    (run / "age_vector.json").write_text(json.dumps(report, indent=1))
    print("age SVM on held-out photos:", report)
    return report
