"""Stage `age-vector` (S3, S5): a linear SVM on E's features tells over from under 45; its coefficients are n."""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.svm import LinearSVC

from agedit.errors import AgeEditError
from agedit.network.autoencoder import FEATURES, INPUT, Autoencoder
from agedit.training.common import Device, batch_of, load_checkpoint
from agedit.training.data import Crops

BOUNDARY = 45


def load_encoder(run):
    """The finished E of a run folder, in evaluation mode, and the sketch of its features."""
    state = load_checkpoint(Path(run) / "autoencoder.pt")
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
    return model.encoder.to(memory_format=torch.channels_last), model.sketch


def features_of(encoder, crops, indices, device):
    """E's features, float32 (N, 512)."""
    encoder = encoder.to(device)
    result = []
    for part in np.array_split(indices, max(1, len(indices) // 64)):
        x = batch_of(crops.images, part, device)[0]
        with torch.no_grad():
            result.append(encoder(F.avg_pool2d(x, 256 // INPUT)).cpu().numpy())
    return np.concatenate(result) if result else np.zeros((0, FEATURES), np.float32)


def auc(truth, score):
    """Area under the ROC curve, or None where one class is missing."""
    return round(float(roc_auc_score(truth, score)), 4) if len(set(truth)) == 2 else None


def train_age_vector(data, run, c=2e-4):
    """Fit on training people, judge on held-out photos, write `age_vector.npz` and `age_vector.json`.

    Exactly 45 has no label (S12). Each gender weighs the same in both classes, so that n means age alone.

    Returns:
        {"balanced_accuracy", "auc", "train", "held_out", ...} on held-out labelled photos.
    """
    device, (encoder, _), run = Device(), load_encoder(run), Path(run)
    sets = {False: [[], [], []], True: [[], [], []]}
    for crops in map(Crops, data):
        for held in (False, True):
            if held and not (crops.kind == "photo").any():
                continue
            index = crops.photos(True) if held else np.flatnonzero(~crops.held_out & ~np.isnan(crops.age))
            index = index[crops.age[index] != BOUNDARY]
            for column, values in zip(
                sets[held],
                (
                    features_of(encoder, crops, index, device.torch),
                    crops.age[index] > BOUNDARY,
                    crops.gender[index],
                ),
            ):
                column.append(values)
    (x, y, gender), (tx, ty, tg) = ([np.concatenate(v) for v in sets[h]] for h in (False, True))
    if len(ty) < 10 or len(set(ty)) < 2 or len(set(y)) < 2:
        raise AgeEditError(
            "The age vector needs labelled photos on both sides of 45, at least 10 of them held out; "
            "prepare more photos."
        )
    weight = np.ones(len(y))
    for label in (0, 1):
        for g in (0, 1):
            cell = (y == label) & (gender == g)
            weight[cell] = len(y) / (4 * max(1, cell.sum()))
    svm = LinearSVC(C=c, dual="auto", max_iter=5000, intercept_scaling=10).fit(x, y, weight)
    n = svm.coef_[0] / np.linalg.norm(svm.coef_)
    score = svm.decision_function(tx)
    report = {
        "balanced_accuracy": round(float(balanced_accuracy_score(ty, score > 0)), 4),
        "accuracy": round(float(np.mean((score > 0) == ty)), 4),
        "auc": auc(ty, score),
        "train": len(y),
        "held_out": len(ty),
        "auc_women": auc(ty[tg == 1], score[tg == 1]),
        "auc_men": auc(ty[tg == 0], score[tg == 0]),
        "spread": round(float((x @ n).std()), 4),
        "c": c,
    }
    np.savez(run / "age_vector.npz", n=n.astype(np.float32))
    (run / "age_vector.json").write_text(json.dumps(report, indent=1))
    print("age SVM on held-out photos:", report)
    return report
