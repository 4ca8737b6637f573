"""What this device is, and the times measured on it: one readable JSON a device under profiles/.

A profile may come from anybody, so a file is believed only after `ProfileFile` has checked every value in it:
known keys, plain short names, finite numbers that can be true. What is kept is written anew from these.
"""

import contextlib
import errno
import json
import os
import platform
import re
import secrets
import stat
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agedit.errors import AgeEditError
from agedit.runtime.backends import runtime_name
from agedit.runtime.host import usable_cores
from agedit.selection.cost_model import fit
from agedit.selection.times import Candidate, Times
from agedit.submodel import RATIOS, WIDTHS, work

SCHEMA = 1
MOST_BYTES = 1_000_000  # of a file; a profile has some 10 kB
MOST_PROFILES = 32  # of other devices in a folder: more do not fit in a list or a plot
MOST_RUNS = 1000  # of one sub-model; the selector makes 40
MOST_CORES = 4096
MOST_MS = 3_600_000.0  # an hour
LONGEST_NAME = 80  # characters
LONGEST_FILE_NAME = 48  # characters of a file's name in a sentence

TimesOf = Mapping[Candidate, Times]


class Loaded(TypedDict):
    """A profile that was read: whose it is, how it was powered, its times, and the path of its file."""

    device: dict[str, str | int]
    power: str
    times: dict[Candidate, Times]
    path: str


# ASCII only: other alphabets have letters that are invisible, turn the line around or pass for others.
Name = Annotated[
    str,
    Field(pattern=rf"\A[A-Za-z0-9][A-Za-z0-9 .,()@+/_-]{{0,{LONGEST_NAME - 1}}}\z", max_length=LONGEST_NAME),
]
Cores = Annotated[int, Field(ge=1, le=MOST_CORES)]
Milliseconds = Annotated[float, Field(ge=1e-3, le=MOST_MS)]
Coefficient = Annotated[float, Field(ge=-MOST_MS, le=MOST_MS)]


class _Strict(BaseModel):
    """Values of the very type named, no others, and no keys but those listed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class DeviceFields(_Strict):
    """What must be the same for times to be trusted."""

    processor: Name
    machine: Name
    system: Name
    cores: Cores
    threads: Cores
    runtime: Name
    weights: Name


class FitFields(_Strict):
    """p50 of a sub-model = ms + ms_per_gmac * its multiply-adds / 1e9; for readers, never computed from."""

    ms: Coefficient
    ms_per_gmac: Coefficient


class TimesFields(_Strict):
    """The counted runs of one sub-model; p50, p90 and n are for readers, never computed from."""

    r: int
    c: float
    p50_ms: Milliseconds | None = None
    p90_ms: Milliseconds | None = None
    n: Annotated[int, Field(ge=1, le=MOST_RUNS)] | None = None
    runs_ms: Annotated[list[Milliseconds], Field(min_length=1, max_length=MOST_RUNS)]

    @model_validator(mode="after")
    def _is_a_submodel(self) -> "TimesFields":
        if self.r not in WIDTHS or self.c not in RATIOS:
            raise ValueError("there is no such sub-model")
        return self


class ProfileFile(_Strict):
    """The whole file."""

    schema_version: Annotated[int, Field(alias="schema", ge=SCHEMA, le=SCHEMA)]
    device: DeviceFields
    power: Literal["battery", "mains", "unknown"] = "unknown"
    fit: FitFields | None = None
    times: Annotated[list[TimesFields], Field(min_length=1, max_length=len(WIDTHS) * len(RATIOS))]

    @model_validator(mode="after")
    def _each_submodel_once(self) -> "ProfileFile":
        if len({(entry.r, entry.c) for entry in self.times}) < len(self.times):
            raise ValueError("a sub-model is there twice")
        return self


def _plain(text: object) -> str:
    """A name that this machine gives, cut down to what `Name` allows; "unknown" where nothing is left."""
    allowed = re.sub(r"[^A-Za-z0-9 .,()@+/_-]", "", " ".join(str(text).split()))
    return allowed.lstrip(" .,()@+/_-")[:LONGEST_NAME].strip() or "unknown"


def shown_name(path: str | os.PathLike[str]) -> str:
    """The name of anybody's file as a sentence may show it: plain, short, without its folder."""
    name = re.sub(r"[^A-Za-z0-9 ._-]", "", os.fsdecode(Path(path).name)).strip(" .")
    stem, dot, ending = name.rpartition(".")
    if not dot or len(ending) > 8:
        stem, ending = name, ""
    if len(name) > LONGEST_FILE_NAME:
        stem = stem[: LONGEST_FILE_NAME - 12] + "..."
    return (stem + dot + ending if ending else stem) or "without a name"


def processor() -> str:
    """The processor's name as its maker writes it, as far as the system tells."""
    with contextlib.suppress(OSError):
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        if match:
            return _plain(match[1])
    with contextlib.suppress(OSError):  # boards and phones
        return _plain(Path("/proc/device-tree/model").read_text())
    if platform.system() == "Darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            asked = subprocess.run(
                ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True
            )
            return _plain(asked.stdout)
    return _plain(platform.processor() or platform.machine())


def power_state() -> str:
    """'battery', 'mains' or 'unknown'."""
    try:
        states = [p.read_text().strip() for p in Path("/sys/class/power_supply").glob("*/status")]
    except OSError:
        states = []
    return "battery" if "Discharging" in states else "mains" if states else "unknown"


def identity(threads: int, weights_hash: str, runtime: str | None = None) -> dict[str, str | int]:
    """What must be the same for times to be trusted. runtime: `Engine.runtime`; default: that of the released
    weights.
    """
    return {
        "processor": processor(),
        "machine": _plain(platform.machine()),
        "system": _plain(platform.system()),
        "cores": usable_cores(),
        "threads": threads,
        "runtime": _plain(runtime or runtime_name()),
        "weights": weights_hash,
    }


def path_for(device: Mapping[str, str | int], folder: str | os.PathLike[str]) -> Path:
    """Where the profile of a device lies: its processor and cores in small letters, digits and hyphens."""
    name = re.sub(r"[^a-z0-9]+", "-", f"{device['processor']} {device['cores']} cores".lower()).strip("-")
    return Path(folder) / f"{name}.json"


def write(path: str | os.PathLike[str], device: Mapping[str, str | int], times: TimesOf) -> None:
    """Write this device's times as a profile, whole or not at all. Raises AgeEditError."""
    _keep(Path(path), _as_text(device, power_state(), times))


def _as_text(device: Mapping[str, str | int], power: str, times: TimesOf) -> str:
    """The file's text, from values alone."""
    line = fit(times, work)
    content = {
        "schema": SCHEMA,
        "device": {k: _plain(v) if isinstance(v, str) else v for k, v in device.items()},
        "power": power,
        "fit": None if line is None else {"ms": line[0], "ms_per_gmac": line[1] * 1e9},
        "times": [_entry(r, c, t) for (r, c), t in sorted(times.items()) if t.runs],
    }
    return json.dumps(content, indent=1)


def _entry(r: int, c: float, times: Times) -> dict[str, Any]:
    return {
        "r": r,
        "c": c,
        "p50_ms": round(times.p50, 3),
        "p90_ms": round(times.p90, 3),
        "n": len(times.runs),
        "runs_ms": [round(v, 3) for v in times.runs],
    }


def _keep(path: Path, text: str) -> None:
    """Write whole or not at all. Raises AgeEditError."""
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise AgeEditError(
            f"The profile could not be kept ({error.strerror}); "
            "make its folder writable or name another with AGEDIT_PROFILES."
        ) from None


def _text_of(path: Path) -> str:
    """Of a plain file of at most MOST_BYTES, in UTF-8.

    Raises OSError where it is no plain file (a link may lead anywhere, a pipe keeps its reader waiting),
    ValueError where it is too large or in another encoding.
    """
    flags = os.O_RDONLY | sum(getattr(os, k, 0) for k in ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.EINVAL, "it is not a plain file")
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError("no profile is that large")
    return data.decode("utf-8-sig")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose keys all differ: of two with one name, another reader may take the other."""
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key is there twice")
    return result


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def load(path: str | os.PathLike[str], called: str = "") -> Loaded:
    """Anybody's profile as data, to compare and plot.

    Never a ground for a choice on this device; that is `read`. Raises AgeEditError when damaged or of another
    schema; its sentence shows nothing of the file but its name, or what it was `called`, made plain.
    """
    name = shown_name(called or path)
    try:
        data = json.loads(_text_of(Path(path)), object_pairs_hook=_once, parse_constant=_no_number)
    except OSError as error:
        raise AgeEditError(
            f"The profile {name} cannot be read ({error.strerror}); export it again."
        ) from None
    except (ValueError, RecursionError):
        raise _damaged(name) from None
    schema = data.get("schema") if isinstance(data, dict) else None
    if type(schema) is int and 0 < schema < 1000 and schema != SCHEMA:
        raise AgeEditError(
            f"The profile {name} has schema {schema}, this program reads {SCHEMA}; tune again."
        )
    try:
        content = ProfileFile.model_validate(data)
    except ValidationError:
        raise _damaged(name) from None
    times = {(entry.r, entry.c): Times(list(entry.runs_ms)) for entry in content.times}
    return {"device": content.device.model_dump(), "power": content.power, "times": times, "path": str(path)}


def _damaged(name: str) -> AgeEditError:
    return AgeEditError(
        f"The profile {name} is damaged or no profile; export it again, or time that device again."
    )


def read(path: str | os.PathLike[str], device: Mapping[str, str | int]) -> dict[Candidate, Times]:
    """Times of a valid profile of this device.

    Raises AgeEditError when the file is damaged, of another schema, or from another device, thread count,
    runtime or weights: foreign times are never used for a choice.
    """
    data = load(path)
    different = [k for k in device if data["device"].get(k) != device[k]]
    if different:
        raise AgeEditError(
            f"The profile {shown_name(path)} was made elsewhere (another {', '.join(different)}); tune again."
        )
    return data["times"]


def adopt_threads(
    path: str | os.PathLike[str], device: Mapping[str, str | int], fixed: bool
) -> Mapping[str, str | int]:
    """`device` with the number of threads that its own profile found best, unless the caller fixed one."""
    theirs = load(path)["device"]
    same = all(theirs.get(k) == v for k, v in device.items() if k != "threads")
    if fixed or not same or int(theirs["threads"]) > int(device["cores"]):
        return device
    return {**device, "threads": theirs["threads"]}


def exported(path: str | os.PathLike[str]) -> bytes:
    """A profile as another device may have it: written anew from what was checked. Raises AgeEditError."""
    data = load(path)
    return _as_text(data["device"], data["power"], data["times"]).encode()


def survey(folder: str | os.PathLike[str]) -> tuple[list[Loaded], list[str]]:
    """The profiles of a folder by file name, MOST_PROFILES at most, and a sentence for each one left out."""
    readable: list[Loaded] = []
    left_out: list[str] = []
    for path in _profiles_in(folder):
        if MOST_PROFILES in (len(readable), len(left_out)):
            left_out.append(f"Only {MOST_PROFILES} profiles are read; remove some to see the others.")
            break
        try:
            readable.append(load(path))
        except AgeEditError as error:
            left_out.append(str(error))
    return readable, left_out


def _profiles_in(folder: str | os.PathLike[str]) -> Iterable[Path]:
    """By name; none where the folder cannot be read."""
    try:
        return sorted(path for path in Path(folder).iterdir() if path.suffix == ".json")
    except OSError:
        return []


def load_folder(folder: str | os.PathLike[str]) -> list[Loaded]:
    """Every readable profile of a folder, by file name; damaged ones are left out."""
    return survey(folder)[0]


def import_profile(path: str | os.PathLike[str], folder: str | os.PathLike[str], called: str = "") -> Path:
    """Keep what another device's profile says in `folder`; returns where it lies now.

    A profile of the same name is replaced only by one of the same device. Raises AgeEditError, which names
    the file, or what it was `called`.
    """
    data = load(path, called)
    name = path_for(data["device"], folder)
    if name == path_for(identity(0, ""), folder):
        raise AgeEditError("That is a profile of this very device; its own times are in use already.")
    if os.path.lexists(name):
        if load(name)["device"] != data["device"]:
            raise AgeEditError(f"{name.name} is another profile of such a device; rename or remove it first.")
    elif len(list(_profiles_in(folder))) >= MOST_PROFILES:
        raise AgeEditError(f"There are {MOST_PROFILES} profiles already; remove one first.")
    _keep(name, _as_text(data["device"], data["power"], data["times"]))
    return name
