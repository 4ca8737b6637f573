"""What the losses compare a picture with, at the resolution and on the patch that was drawn."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from agedit.network.generator import Patch
from agedit.training.images import shrink
from agedit.training.loader import Batch

# Pixels that the padding at a patch's borders spoils.
MARGIN = 8
# D's unit of age: so many years from so many years.
AGE_UNIT = 25
AGE_ZERO = 45


def trim_margin(x: torch.Tensor, patch: Patch | None) -> torch.Tensor:
    """The part of a patch's picture that its borders' padding did not touch; a whole picture as it is."""
    if patch is None:
        return x
    return x[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]


def crop_to_patch(x: torch.Tensor, r: int, patch: Patch | None) -> torch.Tensor:
    """(B, C, R, R) shrunk to r and cut to what `trim_margin` leaves of the patch."""
    x = shrink(x, r)
    if patch is None:
        return x
    rows = slice(2 * patch.row, 2 * (patch.row + patch.edge))
    columns = slice(2 * patch.column, 2 * (patch.column + patch.edge))
    return trim_margin(x[:, :, rows, columns], patch)


@dataclass
class JudgedTarget:
    """What the judges see of the targets, of all rows; a photo without a second age is its own target."""

    years: torch.Tensor  # (B, judges)
    male: torch.Tensor  # (B,), the logit of male against female
    features: list[torch.Tensor]  # of the age network
    mood: torch.Tensor  # (B, 7), log-probabilities of the expressions in the photo


@dataclass
class TrunkFeatures:
    """The frozen trunk's features of the pairs: of photo and target, and what D sees of the target."""

    photo: list[torch.Tensor]
    target: list[torch.Tensor]
    target_inputs: list[torch.Tensor]


class LossView:
    """A batch as the losses see it at (r, patch).

    Attributes:
        x, target: (B, 3, s, s) in -1..1. mask: (B, 1, s, s). pair, hidden: (B,) bool. years: (B,), those
        asked for.
        goal: (B,), the age that the picture should show, in D's unit.
        places_weight: (B, s / 16, s / 16), of D's places; mean 1.
        judged, trunk: filled in by the trainer when it has asked for them.
    """

    def __init__(self, batch: Batch, r: int, patch: Patch | None) -> None:
        self.x = crop_to_patch(batch.x, r, patch)
        self.target = crop_to_patch(batch.target, r, patch)
        self.mask = crop_to_patch(batch.mask, r, patch)
        self.pair = batch.pair
        self.hidden = batch.hidden
        self.years = batch.years
        self.goal = (batch.age + batch.years - AGE_ZERO) / AGE_UNIT
        weight = shrink(self.mask, self.mask.shape[-1] // 16)[:, 0]
        self.places_weight = weight / weight.mean().clamp_min(1e-3)
        self.is_patch = patch is not None
        self.judged: JudgedTarget | None = None
        self.trunk: TrunkFeatures | None = None

    def change(self, picture: torch.Tensor, rows: torch.Tensor | slice = slice(None)) -> torch.Tensor:
        """What D sees beside `picture`: its change, in rows whose photo is not hidden."""
        return (picture - self.x[rows]) * ~self.hidden[rows][:, None, None, None]

    def shown_in(self, full: "LossView", y: torch.Tensor) -> torch.Tensor:
        """y at the resolution of the view `full`, as the app shows it.

        The photo itself under a small network's change.

        Hidden rows are G(f') as it is.
        """
        size = full.x.shape[-1]
        photo = (full.x - _resized(self.x, size)) * ~self.hidden[:, None, None, None]
        return (photo + _resized(y, size)).clamp(-1, 1)

    def mean_of_places(self, losses: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Mean over D's places (rows, r / 16, r / 16), weighed by the mask.

        Elsewhere an edit is the photo itself.
        """
        return (losses * self.places_weight[rows]).mean()


def _resized(x: torch.Tensor, size: int) -> torch.Tensor:
    if x.shape[-1] == size:
        return x
    return F.interpolate(x, size=(size, size), mode="bicubic")
