"""The losses of one network's pictures (S26-S29)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from agedit.training.adversary import Adversary, TrunkInputs
from agedit.training.common import Device, add_up
from agedit.training.images import shrink
from agedit.training.loss_views import JudgedTarget, LossView
from agedit.training.losses import Judges, Perceptual, bound_gradient, style_distance, texture
from agedit.training.settings import Settings

# Judged years are divided by this before they are compared, and differences over AGE_BETA of it count by
# their length.
AGE_SCALE = 20
AGE_BETA = 0.3
# Weight of the years beside the age network's features.
YEARS_SHARE = 0.2
# The logit of male against female need not be surer than this.
SURE = 2.0
# Identity distance that an edit may have, and by how much more for each year.
IDENTITY_ROOM = 0.25
IDENTITY_ROOM_PER_YEAR = 0.005
# Pixels of the coarsest L1.
COARSEST = 8


@dataclass
class Edit:
    """Pictures (B, 3, s, s) in about -1..1: the shown picture y, and both raw outputs G(f') and G(f)."""

    y: torch.Tensor
    new: torch.Tensor
    base: torch.Tensor


@dataclass
class TrunkOfEdit:
    """The perceptual trunk's features of the pairs' targets and of their edits, and what D sees of both."""

    target: Sequence[torch.Tensor]
    edit: Sequence[torch.Tensor]
    inputs: TrunkInputs


@dataclass
class Losses:
    """The weighed terms of one network, their sum, and the ages (B, judges) that its pictures show.

    `years` is None on a patch.
    """

    terms: dict[str, torch.Tensor]
    total: torch.Tensor
    years: torch.Tensor | None

    def log(self) -> dict[str, torch.Tensor]:
        """The terms without their gradients."""
        return {name: term.detach().float() for name, term in self.terms.items()}


def age_distance(years: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """How far judged years are from those wanted; a scalar."""
    return F.smooth_l1_loss(years / AGE_SCALE, wanted / AGE_SCALE, beta=AGE_BETA)


class GeneratorLosses:
    """Weighs and adds up the losses of a network's pictures."""

    def __init__(
        self,
        settings: Settings,
        device: Device,
        adversary: Adversary,
        perceptual: Perceptual,
        judges: Judges,
    ) -> None:
        self.settings = settings
        self.device = device
        self.adversary = adversary
        self.perceptual = perceptual
        self.judges = judges

    def judge_target(self, view: LossView) -> JudgedTarget:
        """What the judges see of the targets, and the expression in the photos."""
        with torch.no_grad(), self.device.autocast():
            look = self.judges.look(view.target)
            return JudgedTarget(look.years, look.male, look.features, self.judges.mood(view.x))

    def __call__(
        self,
        view: LossView,
        edit: Edit,
        full: LossView | None,
        trunk: TrunkOfEdit | None,
        judge_photos: bool = False,
    ) -> Losses:
        """The losses of one network.

        Args:
            full: the view of the stage's own resolution, with `judged`; None on a patch.
            trunk: for D's and the perceptual terms; None leaves them out.
            judge_photos: age and identity of labelled photos, and the likeness of hidden ones, too.
        """
        terms = self._pixel_terms(view, edit)
        years = None
        with self.device.autocast():
            if trunk:
                terms |= self._trunk_terms(view, edit.y, trunk)
            if full:
                judged, years = self._judged_terms(view, full, edit.y, trunk is not None)
                terms |= judged
            if judge_photos and full and (~view.pair).any():
                terms |= self._photo_terms(view, full, edit.y)
            if judge_photos and view.hidden.any():
                terms["likeness"] = self._likeness(view, edit)
        return Losses(terms, add_up(terms.values()), years)

    def _pixel_terms(self, view: LossView, edit: Edit) -> dict[str, torch.Tensor]:
        """L1 at three scales, strength of the change by octaves, and the raw outputs against what they stand
        for.
        """
        s = self.settings
        y = edit.y
        target = view.target
        pair = view.pair
        r = y.shape[-1]
        scales = [
            share * (shrink(y, size) - shrink(target, size))[pair].abs().mean()
            for share, size in ((s.fine, r), (1, r // 4), (1, COARSEST))
        ]
        octaves = [
            (a - b)[pair].abs().mean()
            for a, b in zip(texture(view.change(y)), texture(view.change(target)), strict=True)
        ]
        drawn = (edit.new - target)[pair].abs().mean()
        redrawn = ((edit.base - view.x) * view.mask.clamp_min(0.1)).abs().mean()
        return {
            "pixel": s.pixel * add_up(scales),
            "texture": s.texture.at(r, view.is_patch) * add_up(octaves),
            "raw": s.raw * (drawn + redrawn),
        }

    def _trunk_terms(self, view: LossView, y: torch.Tensor, trunk: TrunkOfEdit) -> dict[str, torch.Tensor]:
        """What D says, and how far the trunk's features are from the target's."""
        s = self.settings
        r = y.shape[-1]
        terms = {}
        if s.hears_discriminator(r, view.is_patch):
            fooled, apart = self.adversary.generator_losses(view, y, trunk.inputs)
            terms["adv"] = s.adversarial.at(r, view.is_patch) * fooled
            terms["features"] = s.features * apart
        distance = self.perceptual.distance(trunk.edit, trunk.target).mean()
        terms["lpips"] = s.perceptual.at(r, view.is_patch) * distance
        terms["style"] = s.style * style_distance(trunk.edit, trunk.target).mean()
        return terms

    def _judged_terms(
        self, view: LossView, full: LossView, y: torch.Tensor, compare_look: bool
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Age, gender and expression as the judges see them, and the judged years (B, judges)."""
        assert full.judged is not None
        s = self.settings
        wanted = full.judged
        picture = view.shown_in(full, y)
        look = self.judges.look(picture)
        terms = {}
        if compare_look:
            pair = view.pair
            features = [
                (a - b)[pair].square().sum(1).mean()
                for a, b in zip(look.features, wanted.features, strict=True)
            ]
            years = age_distance(look.years[pair], wanted.years[pair])
            terms["look"] = s.look * (add_up(features) + YEARS_SHARE * years)
        # As sure of the gender as of the target's, but not surer than need be.
        sure = wanted.male.clamp(-SURE, SURE)
        male = self.judges.gender(bound_gradient(picture, s.bound / len(y)))
        shown = ~view.hidden
        terms["gender"] = s.gender * F.relu(sure.abs() - sure.sign() * male)[shown].mean()
        mood = self.judges.mood(bound_gradient(picture, s.bound / len(y)))
        divergence = (wanted.mood.exp() * (wanted.mood - mood)).sum(1)  # Kullback-Leibler
        terms["mood"] = s.expression * divergence[shown].log1p().mean()
        return terms, look.years

    def _photo_terms(self, view: LossView, full: LossView, y: torch.Tensor) -> dict[str, torch.Tensor]:
        """Labelled photos: the years that were asked for, and the same person."""
        assert full.judged is not None
        s = self.settings
        photo = ~view.pair
        years = view.years[photo]
        with torch.no_grad():
            before = self.judges.embed(view.x[photo])
        asked = full.judged.years[photo] + years[:, None]
        picture = bound_gradient(y[photo].clamp(-1, 1), s.bound / len(y))
        age = age_distance(self.judges.look(picture).years, asked)
        again = bound_gradient(y[photo].clamp(-1, 1), s.bound / len(y))  # each bounded by itself
        distance = (self.judges.embed(again).float() - before.float()).norm(dim=1)
        # Some room: a face many years away may look less alike.
        room = IDENTITY_ROOM + IDENTITY_ROOM_PER_YEAR * years.abs()
        return {"age": s.age * age, "id": s.identity * F.relu(distance - room).mean()}

    def _likeness(self, view: LossView, edit: Edit) -> torch.Tensor:
        """Hidden photos: G(f) and G(f') show the same person."""
        hidden = view.hidden
        with torch.no_grad():
            wanted = self.judges.embed(view.x[hidden]).float()
        drawn = torch.cat([edit.base[hidden], edit.new[hidden]]).clamp(-1, 1)
        distance = (self.judges.embed(drawn).float() - wanted.repeat(2, 1)).norm(dim=1)
        return self.settings.likeness * distance.mean()
