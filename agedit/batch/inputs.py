"""Which photos a command line means, which of them are this machine's, and what their edits are called."""

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agedit.batch.choices import PIPE
from agedit.errors import AgeEditError
from agedit.photo import READ_ENDINGS, edited_name

JPEG_ENDINGS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"))
SHARD = re.compile(r"([1-9]\d{0,8})/([1-9]\d{0,8})", re.ASCII)


@dataclass
class Listing:
    """What was asked for.

    photos: paths, sorted, each once.
    failed: (what was asked for, why there is nothing), in the order of the command line.
    """

    photos: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def is_pattern(text: str) -> bool:
    """Whether an argument is a pattern such as photos/*.jpg, and not a file of that very name."""
    return glob.has_magic(text) and not os.path.lexists(text)


def list_photos(arguments: Sequence[str]) -> Listing:
    """The photos of files, folders, patterns and `PIPE`.

    A folder means the pictures in it, not those of folders in it; a pattern with ** goes deeper. The order is
    the same on every machine.
    """
    listing = Listing()
    found: dict[str, str] = {}  # each file once, however it was named
    for argument in arguments:
        try:
            paths = list(_paths_of(argument))
        except AgeEditError as error:
            listing.failed.append((argument, str(error)))
            continue
        for path in paths:
            found.setdefault(PIPE if path == PIPE else os.path.abspath(path), path)
    listing.photos = sorted(found.values())
    return listing


def _paths_of(argument: str) -> Iterator[str]:
    if argument == PIPE:
        yield PIPE
    elif is_pattern(argument):
        yield from _pictures(sorted(glob.glob(argument, recursive=True)), f"match {argument}")
    elif os.path.isdir(argument):
        try:
            names = sorted(name for name in os.listdir(argument) if not name.startswith("."))
        except OSError as error:
            raise AgeEditError(f"The folder {argument} cannot be read ({error.strerror}).") from None
        yield from _pictures([os.path.join(argument, name) for name in names], f"are in {argument}")
    else:
        yield argument  # whether it is a picture is seen when it is opened


def _pictures(paths: Sequence[str], where: str) -> list[str]:
    """Those that are picture files by their endings. Raises AgeEditError where there are none."""
    pictures = [path for path in paths if Path(path).suffix.lower() in READ_ENDINGS and os.path.isfile(path)]
    if not pictures:
        raise AgeEditError(f"No pictures {where}; name files or folders with JPEG, PNG or WebP photos.")
    return pictures


def take_shard(photos: Sequence[str], shard: str | None) -> list[str]:
    """Every N-th photo from the K-th on, where `shard` is "K/N". Raises AgeEditError for other texts."""
    if shard is None:
        return list(photos)
    match = SHARD.fullmatch(shard)
    if not match or int(match[1]) > int(match[2]):
        raise AgeEditError(f"--shard {shard} is not a part; give the K-th of N as K/N, such as 3/16.")
    first, count = int(match[1]), int(match[2])
    return list(photos[first - 1 :: count])


def name_outputs(photos: Sequence[str], years: Sequence[float]) -> dict[str, dict[float, str]]:
    """{photo: {years: name of its edit}}, such as "me_+20_years.jpg", all of them different.

    Photos whose edits would be called alike get their ending, then their folder, into the name. The names
    depend on all `photos`, not on their order.
    """
    ways: tuple[Callable[[str], str], ...] = (_stem, _with_ending, _with_folder, _with_hash)
    way = dict.fromkeys(photos, 0)
    while True:
        stems = {photo: ways[way[photo]](photo) for photo in photos}
        names = {photo: edited_name(stems[photo], years[0], _suffix(photo)).casefold() for photo in photos}
        count = Counter(names.values())
        alike = [photo for photo in photos if count[names[photo]] > 1 and way[photo] + 1 < len(ways)]
        if not alike:
            break
        for photo in alike:
            way[photo] += 1
    return {photo: {y: edited_name(stems[photo], y, _suffix(photo)) for y in years} for photo in photos}


def _suffix(photo: str) -> str:
    """An edit of a JPEG is one, and everything else becomes a PNG."""
    return ".jpg" if Path(photo).suffix.lower() in JPEG_ENDINGS else ".png"


def _stem(photo: str) -> str:
    return "photo" if photo == PIPE else Path(photo).stem


def _with_ending(photo: str) -> str:
    return f"{_stem(photo)}_{Path(photo).suffix[1:]}"


def _with_folder(photo: str) -> str:
    return f"{Path(os.path.abspath(photo)).parent.name}_{_with_ending(photo)}"


def _with_hash(photo: str) -> str:
    """It comes first: the end of a long name is cut."""
    return f"{hashlib.sha256(os.fsencode(photo)).hexdigest()[:8]}_{_stem(photo)}"


def same_file(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to one file that exists."""
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):
        return False
