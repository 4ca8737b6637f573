"""The weights folder: whatever is wrong with it ends in one sentence, before anything of it is read natively."""  # noqa: E501

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agedit import AgeEditError, Engine, manifest, weights
from agedit.manifest import KNOWN, MANIFEST, NETWORKS, PIN, RANGES, THIRD_PARTY
from agedit.paths import weights_folder
from agedit.weights import Weights
from ui.words import ERRORS, plainly

FLIPS = 600


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The released weights: small files as copies, large ones as links."""
    copy = tmp_path / "weights"
    copy.mkdir()
    for path in weights_folder().iterdir():
        if path.name in (MANIFEST, PIN):
            shutil.copy(path, copy)
        else:
            (copy / path.name).symlink_to(path)
    return copy


def refused(folder: Path) -> str:
    """The sentence with which a folder is refused: one, without a path of this machine."""
    with pytest.raises(AgeEditError) as error:
        Weights(folder)
    sentence = str(error.value)
    assert sentence.startswith("The weights ") and sentence.endswith(".") and "\n" not in sentence
    assert len(sentence) < 250 and str(folder) not in sentence and "Traceback" not in sentence
    return sentence


def put(folder: Path, text: bytes) -> None:
    """Another manifest, with a pin that agrees: what a pin cannot see."""
    (folder / MANIFEST).write_bytes(text)
    (folder / PIN).write_bytes(manifest.pin_line(text))


def test_the_released_folder_opens(folder):
    assert Weights(folder).hash == Weights().hash


def test_every_flipped_bit_is_refused(folder, monkeypatch):
    """Of the manifest, and of its pin."""
    monkeypatch.setattr(weights, "sha256", lambda path: pytest.fail("a file was read by a damaged manifest"))
    for name in (MANIFEST, PIN):
        data = (folder / name).read_bytes()
        bits = 8 * len(data)
        chosen = range(bits) if bits < FLIPS else random.Random(0).sample(range(bits), FLIPS)
        for bit in chosen:
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            (folder / name).write_bytes(flipped)
            assert "damaged" in refused(folder)
        (folder / name).write_bytes(data)


def set_at(*path: Any) -> Callable[[dict], None]:
    """A change of a manifest: the last of `path` is put where the others lead."""

    def change(data: dict) -> None:
        *way, last, value = path
        for key in way:
            data = data[key]
        data[last] = value

    return change


def without(*path: Any) -> Callable[[dict], None]:
    """A change of a manifest: what `path` leads to is taken away."""

    def change(data: dict) -> None:
        *way, last = path
        for key in way:
            data = data[key]
        del data[last]

    return change


DIGEST = "0" * 64
CALIBRATION = ("years", "ages", "blurs", "youngest", "oldest", "children", "submodels")
CHANGES = {
    **{f"no {key}": without(key) for key in ("schema", "resolutions", "files", "encoder", "calibration")},
    **{f"no {key}": without(key) for key in ("quality_order", "provenance")},
    **{f"no calibration.{key}": without("calibration", key) for key in CALIBRATION},
    **{f"no {key} of the encoder": without("encoder", key) for key in ("input", "convolutions")},
    **{f"{name} not named": without("files", name) for name in (NETWORKS, *THIRD_PARTY)},
    **{
        f"{key} is {value!r}": set_at(key, value)
        for key in (
            "resolutions",
            "files",
            "encoder",
            "calibration",
            "quality_order",
            "provenance",
            "quality",
        )
        for value in (7, "text", True, [None], [[[]]])
    },
    "schema as text": set_at("schema", "4"),
    "schema true": set_at("schema", True),
    "schema none": set_at("schema", None),
    "an unknown key": set_at("more", 1),
    "a file elsewhere": set_at("files", "../secrets", DIGEST),
    "a device": set_at("files", "/dev/zero", DIGEST),
    "a hash too short": set_at("files", NETWORKS, DIGEST[1:]),
    "a hash in capitals": set_at("files", NETWORKS, "A" * 64),
    "a hash of two lines": set_at("files", NETWORKS, DIGEST + "\n"),
    "a hash none": set_at("files", NETWORKS, None),
    "resolutions falling": set_at("resolutions", [512, 256, 128, 64]),
    "no resolution": set_at("resolutions", []),
    "a resolution negative": set_at("resolutions", 0, -64),
    "a resolution huge": set_at("resolutions", 3, 2**40),
    "a resolution that no block has": set_at("resolutions", 0, 100),
    "a resolution broken": set_at("resolutions", 0, 64.5),
    "an input of no pixels": set_at("encoder", "input", 0),
    "an input negative": set_at("encoder", "input", -128),
    "an input huge": set_at("encoder", "input", 10**9),
    "a convolution huge": set_at("encoder", "convolutions", 0, [10**12, 1]),
    "a stride of none": set_at("encoder", "convolutions", 0, [32, 0]),
    "a convolution of three": set_at("encoder", "convolutions", 0, [32, 1, 1]),
    "a million convolutions": set_at("encoder", "convolutions", [[1, 1]] * 100_000),
    "years not rising": set_at("calibration", "years", [0] * 15),
    "years without 0": set_at("calibration", "years", list(range(1, 16))),
    "a year more": set_at("calibration", "years", list(range(-30, 50, 5))),
    "years of 10^300": set_at("calibration", "years", -1, 1e300),
    "no ages": set_at("calibration", "ages", []),
    "an age negative": set_at("calibration", "ages", 0, -1),
    "youngest above oldest": set_at("calibration", "youngest", 90),
    "oldest as text": set_at("calibration", "oldest", "85"),
    "children uneven": set_at("calibration", "children", {"ages": [4, 12], "years": [15]}),
    "children without ages": set_at("calibration", "children", {"ages": [], "years": []}),
    "no sub-model": set_at("calibration", "submodels", []),
    "a sub-model without alpha": without("calibration", "submodels", 0, "alpha"),
    "a sub-model twice": lambda data: data["calibration"]["submodels"].append(
        data["calibration"]["submodels"][0]
    ),
    "a row too short": lambda data: data["calibration"]["submodels"][0]["alpha"][0][0].pop(),
    "an alpha none": set_at("calibration", "submodels", 0, "alpha", 0, 0, 0, None),
    "an alpha as text": set_at("calibration", "submodels", 0, "alpha", 0, 0, 0, "1"),
    "an alpha huge": set_at("calibration", "submodels", 0, "alpha", 0, 0, 0, 1e30),
    "an alpha at 0 years": set_at("calibration", "submodels", 0, "alpha", 0, 0, 6, 0.5),
    "an order short of one": lambda data: data["quality_order"].pop(),
    "an order with one twice": lambda data: data["quality_order"].__setitem__(0, data["quality_order"][1]),
    "a quality short of one": lambda data: data["quality"].pop(),
    "a quality negative": set_at("quality", 0, "lpips", -0.1),
    "a quality as text": set_at("quality", 0, "mse", "0"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_wrong_structure_is_one_sentence(folder, name):
    data = json.loads((folder / MANIFEST).read_text())
    CHANGES[name](data)
    put(folder, json.dumps(data).encode())
    assert "damaged" in refused(folder)


RELEASED = (weights_folder() / MANIFEST).read_bytes()
TEXTS = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "UTF-16": RELEASED.decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + RELEASED,
    "cut": RELEASED[: len(RELEASED) // 2],
    "more behind it": RELEASED + b"{}",
    "a list": b"[]",
    "a number": b"4",
    "null": b"null",
    "NaN": RELEASED.replace(b'"youngest": 5', b'"youngest": NaN'),
    "NaN in the provenance": RELEASED.replace(b'"provenance": {', b'"provenance": {"x": NaN, '),
    "Infinity": RELEASED.replace(b'"oldest": 85', b'"oldest": Infinity'),
    "1e999": RELEASED.replace(b'"oldest": 85', b'"oldest": 1e999'),
    "a number of 5000 digits": RELEASED.replace(b'"oldest": 85', b'"oldest": ' + b"9" * 5000),
    "a key twice": RELEASED.replace(b'"youngest": 5', b'"youngest": 5, "youngest": 6'),
    "100000 brackets": b"[" * 100_000,
    "100000 objects": b'{"a":' * 100_000,
    "too large": RELEASED + b" " * manifest.MOST_BYTES,
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_wrong_text_is_one_sentence(folder, name):
    assert TEXTS[name] != RELEASED
    put(folder, TEXTS[name])
    assert "damaged" in refused(folder)


def test_another_schema_says_so(folder):
    put(folder, RELEASED.replace(b'"schema": 4', b'"schema": 3'))
    assert "another schema" in refused(folder)


@pytest.mark.parametrize("name", [MANIFEST, PIN, NETWORKS, RANGES, "identity_dlib.onnx"])
def test_what_is_no_file_is_not_read(folder, name):
    """A folder, a pipe, which would wait for ever, a link to nowhere, and nothing at all."""
    path = folder / name
    path.unlink()
    assert "missing" in refused(folder)
    path.mkdir()
    assert "is not a file" in refused(folder)
    path.rmdir()
    os.mkfifo(path)
    assert "is not a file" in refused(folder)
    path.unlink()
    path.symlink_to(folder / "nowhere")
    assert "missing" in refused(folder)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_an_altered_file_is_refused_before_it_is_parsed(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).unlink()
    (folder / name).write_bytes(data)
    assert "altered" in refused(folder)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_file_that_is_replaced_later_is_not_parsed(folder, name, portrait):
    """Each as the engine opens it: by its own reader."""
    engine = Engine(Weights(folder), 1)
    (folder / name).unlink()
    (folder / name).write_bytes(b"not what was checked")
    with pytest.raises(AgeEditError, match="replaced while in use"):
        engine.weights.path(name)
    opens = {
        NETWORKS: lambda: engine.weights.part("encoder"),
        RANGES: lambda: engine.weights.ranges(64, 0.25),
        "face_detection_yunet.onnx": lambda: engine.find_faces(portrait),
        "hair_segmentation_mobile.tflite": engine._maskers.taken().__enter__,
        "age_gender_faceapi.onnx": lambda: engine.readout,
        "identity_dlib.onnx": lambda: engine.readout.embed(portrait[:256, :256]),
        "expression_faceapi.onnx": lambda: engine.readout.expression_probabilities(portrait[:256, :256]),
    }
    with pytest.raises(AgeEditError, match="replaced while in use"):
        opens[name]()


def test_weights_of_ones_own_carry_their_own_pin(folder):
    """What `export` writes opens; what would not open is not written."""
    from agedit.training.export import write_manifest

    data = json.loads(RELEASED)
    data["provenance"]["generator_steps"] = 3
    write_manifest(folder, data)
    assert Weights(folder).manifest == data
    assert (folder / PIN).read_text().split()[1] == MANIFEST
    for broken in (float("nan"), "text"):
        data["calibration"]["youngest"] = broken
        with pytest.raises(AgeEditError):
            write_manifest(folder, data)
    assert Weights(folder).manifest["calibration"]["youngest"] == 5


def test_the_commit_is_left_out_without_git(tmp_path, monkeypatch):
    from agedit.training import export

    monkeypatch.setenv("PATH", str(tmp_path))
    assert export.commit_of(tmp_path) == ""
    monkeypatch.undo()
    assert export.commit_of(tmp_path) == ""  # no repository

    def slow(*command, **options):
        raise subprocess.TimeoutExpired(command, 30)

    monkeypatch.setattr(export.subprocess, "run", slow)
    assert export.commit_of(tmp_path) == ""


def test_the_sentences_reach_a_chinese_visitor(folder):
    from types import SimpleNamespace

    visitor = SimpleNamespace(headers={"accept-language": "zh-CN"})
    put(folder, b"{}")
    sentences = [refused(folder)]
    (folder / MANIFEST).unlink()
    sentences.append(refused(folder))
    assert ERRORS and all(plainly(visitor, sentence) != sentence for sentence in sentences)
