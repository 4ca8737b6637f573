"""Settings of the `generator` stage: the weights of its losses and the shape of a step."""

from dataclasses import dataclass

# Resolution above which the second of a setting's `ByLevel` holds.
FINE_FROM = 128
# Pixels of a patch's edge at half the resolution, by resolution: where only the top block is trained, on
# patches.
PATCH_EDGES = {256: 72, 512: 128, 1024: 128}


@dataclass(frozen=True)
class ByLevel:
    """One value each for whole pictures up to FINE_FROM, for larger whole ones, and for patches of the top
    block.

    The top block only sharpens what is drawn below it.
    """

    coarse: float
    fine: float
    patch: float

    def at(self, r: int, is_patch: bool) -> float:
        """The value at r pixels, whole or on patches."""
        if is_patch:
            return self.patch
        return self.fine if r > FINE_FROM else self.coarse


@dataclass(frozen=True)
class Settings:
    """Weights of the losses and the shape of a step; a weight has no unit."""

    # Rows of a batch.
    batch: int = 16
    # Rows of it that are labelled photos without a second age.
    photos: int = 6
    # Highest resolution, in pixels, whose pictures are seen whole and train all blocks; a GPU has time for
    # 256.
    whole: int = 128
    # Share of the pair rows whose photo is hidden.
    strict: float = 0.15
    # The optimiser's rate, at first.
    rate: ByLevel = ByLevel(3e-3, 3e-3, 3e-4)
    # Strength of the change, by octaves and places; with more, over 128 px, ridges got oily.
    texture: ByLevel = ByLevel(10.0, 7.0, 2.0)
    # LPIPS.
    perceptual: ByLevel = ByLevel(5.0, 5.0, 10.0)
    # D's verdict; at 0.3 its gradient is three times that of LPIPS at 256 px.
    adversarial: ByLevel = ByLevel(0.3, 0.15, 0.1)
    # Marks like the target's, wherever they lie.
    style: float = 1.0
    # L1 at three scales.
    pixel: float = 2.5
    # Share of the finest of them: a wrinkle guessed at the wrong place costs twice, so L1 there erases
    # wrinkles.
    fine: float = 0.3
    # G(f') itself against the target, so that the strict form is a face.
    raw: float = 0.2
    # The age network's features of an edit, and its years, against those of the target.
    look: float = 0.3
    # D's features of an edit against those of its target.
    features: float = 0.6
    # A sub-model's pictures against the full network's (S29).
    consistency: float = 20.0
    # A sub-model's edit is judged as old as the full network's.
    same_age: float = 1.0
    # The years that are asked of a photo.
    age: float = 0.15
    # The age network still sees a man as a man, a woman as a woman.
    gender: float = 0.4
    # The expression network still sees what it saw in the photo.
    expression: float = 0.5
    # Longest gradient of gender and of expression in a picture, and of a photo's age and identity, times the
    # batch: four times LPIPS's, but little of a judge's gradient reaches the weights; with 0.4 men and women
    # drifted together.
    bound: float = 0.8
    # The same person, of photos.
    identity: float = 1.0
    # Identity distance of G(f) and G(f') to the photo that was hidden.
    likeness: float = 0.3
    # Steps in which a stage's rate grows to what it is to be.
    warm: int = 40
    # Batches that a new D has to itself before the generator hears of it: weights that draw well fool it for
    # long.
    alone: int = 60

    def hears_discriminator(self, r: int, is_patch: bool) -> bool:
        """Whether D counts for anything.

        A run of some hundred small batches is too short to teach a new one.
        """
        return self.features > 0 or self.adversarial.at(r, is_patch) > 0

    def ever_hears_discriminator(self) -> bool:
        """Whether D counts for anything at some level."""
        weights = (self.adversarial.coarse, self.adversarial.fine, self.adversarial.patch)
        return self.features > 0 or max(weights) > 0
