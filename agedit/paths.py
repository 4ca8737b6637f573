"""Where data lies: in the checkout, inside the installed package, or where the user says."""

import os
from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parent  # holds weights/ and assets/ unless the package was installed from a wheel


def _shipped(in_wheel: str, in_checkout: str) -> Path:
    """A folder of shipped files: `agedit/data/<in_wheel>` of an installed wheel, else the checkout's."""
    installed = PACKAGE / "data" / in_wheel
    return installed if installed.is_dir() else CHECKOUT / in_checkout


def weights_folder() -> Path:
    """Folder of the networks and their manifest; AGEDIT_WEIGHTS names another."""
    named = os.environ.get("AGEDIT_WEIGHTS")
    return Path(named) if named else _shipped("weights", "weights")


def portraits_folder() -> Path:
    """Folder of the shipped example portraits; S4 times one of them."""
    return _shipped("portraits", "assets/portraits")


def profiles_folder() -> Path:
    """Folder of timing profiles: AGEDIT_PROFILES, else the checkout's, else the user's data folder."""
    named = os.environ.get("AGEDIT_PROFILES")
    if named:
        return Path(named)
    if (CHECKOUT / "pyproject.toml").is_file():
        return CHECKOUT / "profiles"
    return platformdirs.user_data_path("agedit", appauthor=False) / "profiles"
