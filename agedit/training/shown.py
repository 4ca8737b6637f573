"""`tone.Tone` in PyTorch: the losses see of a change what the app shows of it.

Left out are the rules that matter little to what is learned: highlights, locks, limits, softness and most of
what is done to the colour of hair. Formulas and settings are those of `agedit.tone`.

Arguments of all functions: change and photo (B, 3, s, s) in units of -1..1; mask and hair (B, 1, s, s) in
0..1; r the pixels of the whole face, of which these may be a patch. Locks are counted from the patch's corner
then.
"""

import torch
import torch.nn.functional as F

from agedit.tone import HAIR, LOCKS, PLACES, SKIN, highlight_rolloff, relit_strands, strand_gain
from agedit.training.images import gaussian_blur, grey_of, shrink, smooth

# Levels of 255 in a unit of -1..1.
LEVELS = 127.5


def shown_change(
    change: torch.Tensor,
    photo: torch.Tensor,
    mask: torch.Tensor,
    hair: torch.Tensor,
    r: int | None = None,
    whole: torch.Tensor | None = None,
) -> torch.Tensor:
    """What is shown of a change, before the mask.

    Args:
        r: pixels of the whole face where this is a patch. whole: the patch of `brightness` of the whole face,
        (B, 1, s, s).
    """
    r = r or change.shape[-1]
    change = weaken_ridges(change, photo, hair, r)
    change = take_own_colour(change, photo, mask, hair, whole)
    change = fade_fine_colour(change, hair, r)
    return relight_strands(change, photo, hair, r)


def weaken_ridges(change: torch.Tensor, photo: torch.Tensor, hair: torch.Tensor, r: int) -> torch.Tensor:
    """`tone.Skin.weaken_ridges`. Below LOCKS pixels it changes nothing."""
    cell = r // LOCKS
    if cell < 1:
        return change
    lines = (-_finer_than_a_fold(grey_of(photo), cell)).clamp_min(0)
    ridges = (_finer_than_a_fold(grey_of(change), cell) - lines).clamp_min(0)
    return change - (1 - SKIN.ridge_share) * (1 - hair) * ridges


def _finer_than_a_fold(x: torch.Tensor, cell: int) -> torch.Tensor:
    """(B, 1, s, s) less what is coarser than a fold."""
    coarse = gaussian_blur(F.avg_pool2d(x, cell), SKIN.fold_sigma)
    return x - F.interpolate(coarse, scale_factor=cell, mode="bilinear")


def take_own_colour(
    change: torch.Tensor,
    photo: torch.Tensor,
    mask: torch.Tensor,
    hair: torch.Tensor,
    whole: torch.Tensor | None = None,
) -> torch.Tensor:
    """`tone.Skin.take_own_colour`. whole: see `shown_change`."""
    kept = 1 - hair
    light = (photo + 1) * LEVELS + SKIN.dark_offset
    if whole is None:
        whole = brightness(change, photo, mask, hair)
    colour = kept * (light / grey_of(light))
    light = SKIN.own_colour * grey_of(change) - SKIN.own_brightness * whole
    return change * (1 - SKIN.own_colour * kept) + colour * light


def brightness(
    change: torch.Tensor, photo: torch.Tensor, mask: torch.Tensor, hair: torch.Tensor
) -> torch.Tensor:
    """What a change does to the brightness of the skin around each place, (B, 1, s, s)."""
    size = change.shape[-1]
    kept = 1 - hair
    grey = grey_of((photo + 1) * LEVELS)
    face = mask * kept
    around = _enlarged(_places(grey * face) / (_places(face) + 1e-3), size)
    light = ((grey / (around + 1) - SKIN.plain_from) / (SKIN.plain_to - SKIN.plain_from)).clamp(0, 1)
    skin = face * kept**3 * light  # as `tone.plain_skin`
    return _enlarged(_places(grey_of(change) * skin) / (_places(skin) + 0.01), size)


def _places(x: torch.Tensor) -> torch.Tensor:
    """(B, 1, s, s) averaged over the neighbourhoods of a grid over the face, (B, 1, PLACES, PLACES)."""
    return gaussian_blur(shrink(x, PLACES), SKIN.around_sigma)


def _enlarged(x: torch.Tensor, size: int) -> torch.Tensor:
    return F.interpolate(x, size=(size, size), mode="bilinear")


def fade_fine_colour(change: torch.Tensor, hair: torch.Tensor, r: int) -> torch.Tensor:
    """Of `tone.Hair.fade_colour`: in hair, colours that are drawn finer than LOCKS are not shown."""
    cell = r // LOCKS
    if cell < 2:
        return change
    colour = change - grey_of(change)
    return change - hair * (colour - smooth(colour, cell))


def relight_strands(change: torch.Tensor, photo: torch.Tensor, hair: torch.Tensor, r: int) -> torch.Tensor:
    """`tone.Hair.relight_strands`. At PLACES pixels it changes nothing."""
    cell = r // PLACES
    if cell < 2:
        return change
    grey = grey_of(change)
    light = grey_of((photo + 1) * LEVELS)
    low = F.avg_pool2d(grey, cell)
    locks = F.avg_pool2d(light, cell)
    gain = strand_gain(LEVELS * low, locks)
    own = relit_strands(hair * (light - _of_cells(locks, cell)), _of_cells(gain, cell)) / LEVELS
    drawn = HAIR.own_strands * hair * (grey - _of_cells(low, cell))
    strands = own - drawn
    room = (HAIR.white - light).clamp_min(0) / LEVELS
    return change + strands - hair * highlight_rolloff(grey + strands, room)


def _of_cells(x: torch.Tensor, cell: int) -> torch.Tensor:
    return F.interpolate(x, scale_factor=cell, mode="bilinear")
