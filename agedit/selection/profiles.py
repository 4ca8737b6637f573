"""What this device is, and the times measured on it: one readable JSON a device under profiles/."""

import contextlib
import json
import os
import platform
import re
import subprocess
from pathlib import Path

from agedit.errors import AgeEditError
from agedit.runtime import runtime_name, usable_cores
from agedit.selection.cost_model import fit
from agedit.selection.times import Times
from agedit.submodel import RATIOS, WIDTHS, work

SCHEMA = 1
MOST_BYTES = 1_000_000


def _plain(text):
    """A name without anything that a page, a plot or a file name could read as more than a name."""
    return re.sub(r"[^\w .,()@+/-]", "", str(text)).strip()[:80]


def processor():
    """The processor's name as its maker writes it, as far as the system tells."""
    with contextlib.suppress(OSError):
        match = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        if match:
            return _plain(match[1])
    with contextlib.suppress(OSError):  # boards and phones
        return _plain(Path("/proc/device-tree/model").read_text())
    if platform.system() == "Darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            return _plain(
                subprocess.run(
                    ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True
                ).stdout
            )
    return _plain(platform.processor() or platform.machine())


def power_state():
    """'battery', 'mains' or 'unknown'."""
    try:
        states = [p.read_text().strip() for p in Path("/sys/class/power_supply").glob("*/status")]
    except OSError:
        states = []
    return "battery" if "Discharging" in states else "mains" if states else "unknown"


def identity(threads, weights_hash, runtime=None):
    """What must be the same for times to be trusted. runtime: `Engine.runtime`; default: that of the released weights."""
    return {
        "processor": processor(),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": usable_cores(),
        "threads": threads,
        "runtime": _plain(runtime or runtime_name()),
        "weights": weights_hash,
    }


def path_for(device, folder: Path):
    name = re.sub(r"[^a-z0-9]+", "-", f"{device['processor']} {device['cores']} cores".lower()).strip("-")
    return Path(folder) / f"{name}.json"


def write(path, device, times):
    """Write times as a profile, whole or not at all. times: {(r, c): Times}. Raises AgeEditError."""
    line = fit(times, work)
    text = json.dumps(
        {
            "schema": SCHEMA,
            "device": device,
            "power": power_state(),
            "fit": None if line is None else {"ms": line[0], "ms_per_gmac": line[1] * 1e9},
            "times": [
                {
                    "r": r,
                    "c": c,
                    "p50_ms": round(t.p50, 3),
                    "p90_ms": round(t.p90, 3),
                    "n": len(t.runs),
                    "runs_ms": [round(v, 3) for v in t.runs],
                }
                for (r, c), t in sorted(times.items())
                if t.runs
            ],
        },
        indent=1,
    )
    _keep(Path(path), text)


def _keep(path, text):
    """Write whole or not at all. Raises AgeEditError."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError as error:
        raise AgeEditError(
            f"The profile could not be kept in {path.parent} ({error.strerror}); "
            "make the folder writable or name another with AGEDIT_PROFILES."
        ) from None


def load(path):
    """Anybody's profile as data, to compare and plot: {"device", "power", "times": {(r, c): Times}, "path"}.

    Never a ground for a choice on this device; that is `read`. Raises AgeEditError when damaged or of another
    schema.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("no profile is that large")
        data = json.loads(path.read_text())
        schema, theirs = (
            data["schema"],
            {k: _plain(v) if isinstance(v, str) else v for k, v in dict(data["device"]).items()},
        )
        times = {(int(t["r"]), float(t["c"])): Times([float(v) for v in t["runs_ms"]]) for t in data["times"]}
        if any(not 0 < v < 1e7 for t in times.values() for v in t.runs) or not all(
            t.runs for t in times.values()
        ):
            raise ValueError("a time is missing or not positive")
        if any(r not in WIDTHS or c not in RATIOS for r, c in times):
            raise ValueError("a sub-model that cannot be")
    except OSError as error:
        raise AgeEditError(f"The profile {path} cannot be read ({error.strerror}); tune again.") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise AgeEditError(
            f"The profile {path.name} is damaged; delete it or tune again with --fresh."
        ) from None
    if schema != SCHEMA:
        raise AgeEditError(
            f"The profile {path.name} has schema {schema}, this program reads {SCHEMA}; tune again."
        )
    return {"device": theirs, "power": data.get("power", "unknown"), "times": times, "path": str(path)}


def read(path, device):
    """Times of a valid profile of this device, {(r, c): Times}.

    Raises AgeEditError when the file is damaged, of another schema, or from another device, thread count,
    runtime or weights: foreign times are never used for a choice.
    """
    data = load(path)
    different = [k for k in device if data["device"].get(k) != device[k]]
    if different:
        raise AgeEditError(
            f"The profile {Path(path).name} was made elsewhere (another {', '.join(different)}); tune again."
        )
    return data["times"]


def adopt_threads(path, device, fixed):
    """`device` with the number of threads that its own profile found best, unless the caller fixed a number."""
    theirs = load(path)["device"]
    threads = theirs.get("threads")
    same = all(theirs.get(k) == v for k, v in device.items() if k != "threads")
    if fixed or not same or not (isinstance(threads, int) and 1 <= threads <= device["cores"]):
        return device
    return device | {"threads": threads}


def load_folder(folder: Path):
    """Every readable profile of a folder, by name; damaged ones are left out."""
    result = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            result.append(load(path))
        except AgeEditError:
            continue
    return result


def import_profile(path, folder: Path):
    """Copy another device's profile into `folder` after checking it; returns where it lies now.

    A profile of the same name is replaced only by one of the same device. Raises AgeEditError.
    """
    data = load(path)
    try:
        name = path_for(data["device"], folder)
    except KeyError:
        raise AgeEditError(
            f"The profile {Path(path).name} does not name its device; export it again."
        ) from None
    if name == path_for(identity(0, ""), folder):
        raise AgeEditError("That is a profile of this very device; its own times are in use already.")
    if name.exists() and load(name)["device"] != data["device"]:
        raise AgeEditError(f"{name.name} is another profile of such a device; rename or remove it first.")
    _keep(name, Path(path).read_text())
    return name
