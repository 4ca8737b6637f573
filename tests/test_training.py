"""Every training stage in small, on a user's own folder.

Prepare, autoencoder, age vector, generator, export, an edit.

The perceptual trunk comes from a package that is not installed here, so its weights are random: what is
checked is that the stages fit together, resume, refuse bad input, and that the losses do what they say; not
that a face gets older.
"""

import csv
import io
import json
import math
import os
import shutil
import signal
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import PORTRAITS

from agedit import AgeEditError, AgeEditor, Engine, load_photo, save_photo
from agedit.align import align
from agedit.faces import FaceFinder
from agedit.paths import weights_folder
from agedit.training import generator
from agedit.training import prepare as prepare_stage
from agedit.training.age_vector import features_of, load_encoder, train_age_vector
from agedit.training.autoencoder import AutoencoderTrainer, EncoderPictures, train_autoencoder
from agedit.training.cli import stages
from agedit.training.common import ALPHA_PER_YEAR, Device
from agedit.training.data import Crops, in_register, is_held_out
from agedit.training.export import THIRD_PARTY, average, export, unpack
from agedit.training.generator import train_generator
from agedit.training.images import batch_of
from agedit.training.loss_views import LossView
from agedit.training.losses import Perceptual
from agedit.training.prepare import Prepared, prepare
from agedit.training.settings import Settings
from agedit.training.swap_encoder import adopt
from agedit.training.trainer import Trainer
from agedit.training.validation import validate
from agedit.weights import Weights

# Numbers of the first 60 people that have been held out since the first release.
HELD_OUT_AT_FIRST = [0, 1, 7, 12, 34, 40, 44]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    shapes = {
        "slice1.0": (64, 3, 11),
        "slice2.5": (192, 64, 5),
        "slice3.9": (384, 192, 3),
        "slice4.11": (256, 384, 3),
        "slice5.13": (256, 256, 3),
    }
    state = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1), "scaling_layer.scale": torch.ones(1, 3, 1, 1)}
    for k, (name, (out, inside, size)) in enumerate(shapes.items()):
        state[f"net.{name}.weight"] = torch.randn(out, inside, size, size) * 0.02
        state[f"net.{name}.bias"] = torch.zeros(out)
        state[f"lin{k}.model.1.weight"] = torch.rand(1, out, 1, 1)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path = tmp_path_factory.mktemp("wheel") / "stlpips.whl"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("stlpips_pytorch/weights/vST0.0/alex_shift_tolerant.pth", buffer.getvalue())
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of 160 small photos with a CSV of ages, and 8 people at two brightnesses as pairs."""
    root = tmp_path_factory.mktemp("data")
    (root / "photos").mkdir()
    (root / "pairs").mkdir()
    small = [cv2.resize(load_photo(p), (240, 240), interpolation=cv2.INTER_AREA) for p in PORTRAITS]
    with open(root / "labels.csv", "w", newline="") as f:
        w = csv.writer(f)
        w.writerow(["file", "age"])
        for i in range(160):
            save_photo(root / "photos" / f"{i}.jpg", cv2.convertScaleAbs(small[i % len(small)], beta=i % 20))
            w.writerow([f"{i}.jpg", 20 + i % 50])
    save_photo(root / "photos" / "noface.png", np.full((200, 200, 3), 90, np.uint8))
    with open(root / "labels.csv", "a") as f:
        f.write("noface.png,30\n")
    with open(root / "pairs" / "pairs.csv", "w", newline="") as f:
        w = csv.writer(f)
        w.writerow(["file", "person", "beta"])
        for i in range(8):
            for k, beta in enumerate((0.0, 2.0)):
                save_photo(root / "pairs" / f"{i}_{k}.png", cv2.convertScaleAbs(small[i], beta=-10 * k))
                w.writerow([f"{i}_{k}.png", f"person{i}", beta])
    n = prepare(root / "ready", root / "photos", root / "labels.csv", [root / "pairs"])
    assert n == 160 + 16  # the picture without a face was left out
    return root


def test_prepared_crops(data):
    crops = Crops(data / "ready")
    assert crops.images.shape == (176, 256, 256, 5) and set(crops.kind) == {"photo", "pair"}
    held_out = [is_held_out(person) for person in crops.person]
    assert 0.02 < crops.held_out.mean() < 0.3 and list(crops.held_out) == held_out
    assert np.array_equal(np.sort(crops.age[crops.kind == "photo"])[:3], [20, 20, 20])
    assert set(crops.gender) <= {0, 1}
    people = crops.people()
    assert people and all(len(g) == 2 and len(set(crops.person[g])) == 1 for g in people)


def test_who_is_held_out_stays_so_and_is_the_share_that_was_asked():
    """A run that goes on, in another process and order, must not train on the people that it judges."""
    names = [f"t1_{i:06d}" for i in range(2000)]
    found = {name for name in names if is_held_out(name)}
    assert 0.06 < len(found) / len(names) < 0.1
    assert [i for i in range(60) if is_held_out(names[i])] == HELD_OUT_AT_FIRST
    assert found <= {name for name in names if is_held_out(name, 0.2)}


def test_two_ages_are_brought_into_register():
    photo = load_photo(PORTRAITS[0])
    first = align(photo, FaceFinder().find(photo)[0], 512)
    y, x = np.mgrid[:512, :512].astype(np.float32)

    def bend(v):
        return cv2.remap(v, x + 5 * np.sin(y / 60), y + 6 * np.cos(x / 70), cv2.INTER_CUBIC)

    folded = first.copy()
    cv2.line(
        folded, (200, 130), (312, 130), (90, 60, 50), 2
    )  # a fold on the forehead, at the older age alone
    face = np.s_[130:460, 130:380]

    def apart(a, b):
        return np.abs(a[face].astype(int) - b[face]).mean()

    moved = bend(folded)
    assert apart(in_register(moved, first), folded) < 0.5 * apart(
        moved, folded
    )  # nose, brows and mouth are back in place

    def depth(v):
        return v[125:136, 220:290].astype(int).min(0).mean() - v[115:120, 220:290].mean()

    assert depth(in_register(moved, first)) < 0.7 * depth(folded) < -50  # and the fold is still there
    np.testing.assert_array_equal(in_register(first, first), first)


def test_all_stages_then_an_edit(data, wheel, tmp_path):
    ready, run, out = str(data / "ready"), tmp_path / "run", tmp_path / "weights"
    with pytest.raises(AgeEditError, match="autoencoder stage first"):
        train_age_vector([ready], run)
    assert 0 < train_autoencoder([ready], run, steps=3, batch=8) < 2
    report = train_age_vector([ready], run)
    assert 0 <= report["balanced_accuracy"] <= 1 and report["held_out"] >= 10
    n = np.load(run / "age_vector.npz")["n"]
    assert n.shape == (512,) and np.linalg.norm(n) == pytest.approx(1, abs=1e-4)
    assert_features_tell_the_picture(data / "ready", run)
    settings = Settings(batch=4, photos=2, strict=0.5)
    assert (
        train_generator(
            [Crops(ready)],
            run,
            wheel,
            weights_folder(),
            ((64, 0.5, 1),),
            steps=2,
            sheet_every=1,
            settings=settings,
        )
        == 2
    )
    assert (run / "sheet.png").exists()
    first = torch.load(run / "generator.pt", weights_only=True)
    # resumed, and widened on the way
    assert (
        train_generator(
            [Crops(ready)], run, wheel, weights_folder(), ((64, 1.0, 1),), steps=3, settings=settings
        )
        == 3
    )
    second = torch.load(run / "generator.pt", weights_only=True)
    assert second["steps"] == 3 and any(
        (second["generator"][k] != v).any() for k, v in first["generator"].items()
    )
    assert_a_generator_can_change_its_encoder(ready, run, tmp_path / "other")
    out.mkdir()
    for name in THIRD_PARTY:
        shutil.copy(weights_folder() / name, out)
    with pytest.raises(AgeEditError, match="trained up to 64"):
        export(run, out, 256)
    export(run, out, 64)
    weights = Weights(out)
    assert (
        weights.resolutions == [64]
        and json.loads((out / "manifest.json").read_text())["provenance"]["generator_steps"] == 3
    )
    editor = AgeEditor(Engine(weights))
    photo = load_photo(PORTRAITS[0])
    editor.set_photo(photo)
    assert editor.edit(20).picture.shape == photo.shape


def assert_features_tell_the_picture(ready, run):
    """E starts as the best linear code: what the sketch draws from f is the picture that E saw."""
    crops, (encoder, sketch) = Crops(ready), load_encoder(run)
    x = batch_of(crops.images, np.flatnonzero(~crops.held_out)[:32], "cpu")[0]
    with torch.no_grad():
        drawn = sketch(encoder(torch.nn.functional.avg_pool2d(x, 2)))
    small = torch.nn.functional.avg_pool2d(x, 8)
    assert (drawn - small).square().mean() < 0.1 * (small - small.mean(0)).square().mean()


def assert_a_generator_can_change_its_encoder(ready, run, other):
    """A step along the new n goes through the rewritten mapping as a step along the old one did."""
    order = torch.randperm(512, generator=torch.Generator().manual_seed(0))
    state, n = torch.load(run / "autoencoder.pt", weights_only=True), np.load(run / "age_vector.npz")["n"]
    for key in ("encoder.fc.weight", "encoder.fc.bias"):
        state["model"][key] = state["model"][key][order]
    state["model"]["encoder.fc.bias"] += 0.5
    other.mkdir()
    torch.save(state, other / "autoencoder.pt")
    np.savez(other / "age_vector.npz", n=n[order])
    adopt([ready], other, run)
    old, new = (torch.load(folder / "generator.pt", weights_only=True)["ema"] for folder in (run, other))
    first, again = old["mapping.0.weight"], new["mapping.0.weight"]
    assert not torch.allclose(first, again, atol=1e-3) and torch.allclose(
        first @ torch.tensor(n), again @ torch.tensor(n[order]), atol=1e-3
    )
    # of the pictures that the map was solved for, what the layer gives is what it gave
    crops, (before, _), (after, _) = Crops(ready), load_encoder(run), load_encoder(other)
    x = torch.nn.functional.avg_pool2d(
        batch_of(crops.images, np.flatnonzero(~crops.held_out)[::3], "cpu")[0], 2
    )
    with torch.no_grad():
        was = before(x) @ first.T + old["mapping.0.bias"]
        now = after(x) @ again.T + new["mapping.0.bias"]
    assert (was - now).square().mean() < 0.02 * was.var()
    with pytest.raises(AgeEditError, match="generator already"):
        adopt([ready], other, run)


def test_released_weights_unpack_to_where_they_came_from(tmp_path):
    """unpack, then export: the same networks up to fp16's rounding."""
    run, out, weights = tmp_path / "run", tmp_path / "out", Weights()
    unpack(weights, run)
    out.mkdir()
    for name in THIRD_PARTY:
        shutil.copy(weights_folder() / name, out)
    export(run, out, weights.resolutions[-1])
    again = Weights(out)
    assert (
        again.manifest["provenance"]["started_from"] == weights.hash
        and again.resolutions == weights.resolutions
    )
    before, after = weights.part(""), again.part("")
    assert after.keys() == before.keys() and all(
        np.allclose(after[k], v, rtol=2e-3, atol=1e-4) for k, v in before.items()
    )


@pytest.fixture(scope="module")
def encoded(data, tmp_path_factory):
    """A run folder with E and n."""
    run = tmp_path_factory.mktemp("encoded")
    train_autoencoder([str(data / "ready")], run, steps=1, batch=8)
    train_age_vector([str(data / "ready")], run)
    return run


def test_what_is_trained_is_what_is_shown(data, encoded, wheel):
    """edit() gives photo + m (G(f') - G(f)).

    The photo itself at no shift, G(f') itself where the photo is hidden.
    """
    trainer = Trainer([Crops(data / "ready")], encoded, wheel, weights_folder(), Settings(batch=4, photos=1))
    b = trainer.loader.draw(128)
    f = torch.randn(4, 512, device=trainer.device.torch)
    hidden = torch.tensor([False, False, True, True], device=trainer.device.torch)
    b = replace(b, hidden=hidden)
    same = trainer.edit(trainer.generator, b, f, f, 64, 1.0)
    small = torch.nn.functional.avg_pool2d(b.x, 2)
    assert torch.allclose(same.y[:2], small[:2], atol=1e-6) and torch.equal(same.y[2:], same.new[2:])
    shifted = f + 20 * ALPHA_PER_YEAR * trainer.n
    edit = trainer.edit(trainer.generator, b, f, shifted, 64, 0.25)
    assert (edit.new[0] != edit.base[0]).any()
    other = replace(b, x=torch.cat([b.x[:2], -b.x[2:]]))
    again = trainer.edit(trainer.generator, other, f, shifted, 64, 0.25)
    assert torch.equal(again.new[2:], edit.new[2:])  # hidden is hidden
    (edit.y[:2] ** 2).sum().backward()
    assert trainer.generator.blocks["64"].conv2.weight.grad.abs().sum() > 0


def test_a_step_at_every_size(data, encoded, wheel):
    """At 128 px the judges look at the full network, its sub-model and the hidden rows.

    At 256 px a patch is trained.
    """
    trainer = Trainer(
        [Crops(data / "ready")], encoded, wheel, weights_folder(), Settings(batch=4, photos=2, strict=1.0)
    )
    trainer.opt_g.set_rate(1e-4)
    trainer.steps = 1  # at odd steps the sub-model is the smallest, never the whole network by chance
    whole, patch = trainer.step(128, 0.5), trainer.step(256, 0.5)
    assert {"likeness", "years", "age", "id", "look", "mood"} <= whole.keys() and not {
        "likeness",
        "years",
        "look",
        "mood",
    } & patch.keys()
    assert (
        all(math.isfinite(v) for v in (*whole.values(), *patch.values()))
        and trainer.guard.skipped == 0
        and trainer.steps == 3
    )


def test_d_learns_which_picture_is_drawn_and_the_generator_hears_it(data, encoded, wheel):
    trainer = Trainer(
        [Crops(data / "ready")], encoded, wheel, weights_folder(), Settings(batch=4, photos=0, strict=0.0)
    )
    b = trainer.loader.draw(128)
    stripes = torch.linspace(0, 60, 128, device=trainer.device.torch).sin()[:, None]
    view = LossView(replace(b, target=(b.x + 0.1 * stripes).clamp(-1, 1)), 64, None)
    drawn = view.x.clone().requires_grad_()
    losses = []
    for k in range(20):
        inputs = trainer._trunk(view, drawn).inputs
        losses.append(float(trainer.adversary.train_step(view, drawn, inputs, k)))
    assert losses[-1] < 0.5 * losses[0]
    fooled, apart = trainer.adversary.generator_losses(view, drawn, trainer._trunk(view, drawn).inputs)
    assert fooled > 0.7 and apart > 0  # one that was found out
    fooled.backward()
    assert drawn.grad.abs().sum() > 0
    same = view.target.clone()
    fooled, apart = trainer.adversary.generator_losses(view, same, trainer._trunk(view, same).inputs)
    assert abs(float(fooled) - math.log(2)) < 0.01 and apart < 0.01
    assert_a_broken_gradient_changes_nothing(trainer, view)


def assert_a_broken_gradient_changes_nothing(trainer, view):
    """One picture that is not finite must not make D nan for good."""
    before = {k: v.clone() for k, v in trainer.adversary.network.state_dict().items()}
    broken = view.x * math.nan
    trainer.adversary.train_step(view, broken, trainer._trunk(view, broken).inputs, 1)
    after = trainer.adversary.network.state_dict()
    assert trainer.adversary.guard.skipped == 1 and all(torch.equal(after[k], v) for k, v in before.items())


def test_two_runs_become_their_mean(tmp_path):
    for name in "ab":
        unpack(Weights(weights_folder()), tmp_path / name)
    a, b = (torch.load(tmp_path / name / "generator.pt", weights_only=True) for name in "ab")
    b["ema"] = {k: v + 1 for k, v in b["ema"].items()}
    torch.save(b, tmp_path / "b" / "generator.pt")
    average(tmp_path / "a", tmp_path / "b", 0.75)
    mean = torch.load(tmp_path / "a" / "generator.pt", weights_only=True)
    assert all(
        torch.allclose(mean[key][k], v + 0.25, atol=1e-5)
        for k, v in a["ema"].items()
        for key in ("ema", "generator")
    )
    torch.save(a, tmp_path / "a" / "generator.pt")
    average(tmp_path / "a", tmp_path / "b", 0.75, {256: 0.0})
    mean = torch.load(tmp_path / "a" / "generator.pt", weights_only=True)["ema"]
    apart = {k: (mean[k] - v).mean().item() for k, v in a["ema"].items()}
    assert all(
        v == pytest.approx(1.0 if k.startswith("blocks.256.") else 0.25, abs=1e-3) for k, v in apart.items()
    )
    with pytest.raises(AgeEditError, match="no block of 1024 px"):
        average(tmp_path / "a", tmp_path / "b", 0.75, {1024: 0.0})
    b["ema"].popitem()
    torch.save(b, tmp_path / "b" / "generator.pt")
    with pytest.raises(AgeEditError, match="same blocks"):
        average(tmp_path / "a", tmp_path / "b", 0.5)


def test_a_block_grows_on_a_trained_network(data, encoded, wheel, tmp_path):
    """512 px on top of 256.

    Needs crops as large, trains the new block alone, and what was trained gives the same pictures.
    """
    fine, run = tmp_path / "fine", tmp_path / "run"
    unpack(Weights(weights_folder()), run)
    with pytest.raises(AgeEditError, match="prepare stage with --size 512"):
        Trainer([Crops(data / "ready")], run, wheel, weights_folder(), Settings(batch=2), largest=512).step(
            512
        )
    assert prepare(fine, pairs=[data / "pairs"], size=512) == 16
    crops = Crops(fine).images
    assert (
        crops.shape == (16, 512, 512, 5)
        and np.abs(crops[0, ::2, ::2] - np.int16(Crops(data / "ready").images[160])).mean() < 4
    )
    trainer = Trainer([Crops(fine)], run, wheel, weights_folder(), Settings(batch=2, photos=0), largest=512)
    before = {k: v.clone() for k, v in trainer.generator.state_dict().items()}
    trainer.opt_g.set_rate(1e-3)
    assert all(math.isfinite(v) for v in trainer.step(512).values()) and trainer.guard.skipped == 0
    changed = {k for k, v in trainer.generator.state_dict().items() if (v != before[k]).any()}
    assert {"blocks.512.conv1.weight", "blocks.512.to_rgb.weight"} <= changed and all(
        k.startswith("blocks.512.") for k in changed
    )
    trainer.save()
    again = Trainer([Crops(fine)], run, wheel, weights_folder(), Settings(batch=2, photos=0))
    assert again.top == 512 and again.steps == trainer.steps


def test_one_broken_batch_is_left_out_and_the_next_one_learns(data, encoded, wheel, monkeypatch):
    """A gradient of nan must neither reach the weights nor switch off the guard against long ones."""
    settings = Settings(batch=2, photos=0)
    trainer = Trainer([Crops(data / "ready")], encoded, wheel, weights_folder(), settings)
    trainer.opt_g.set_rate(1e-3)
    draw = trainer._draw

    def broken(r):
        inputs = draw(r)
        inputs.shifted = inputs.shifted * math.nan
        return inputs

    trainer.step(64, 0.25)
    before = {k: v.clone() for k, v in trainer.generator.state_dict().items()}
    monkeypatch.setattr(trainer, "_draw", broken)
    assert trainer.step(64, 0.25)["skipped"] == 1
    assert all(torch.equal(trainer.generator.state_dict()[k], v) for k, v in before.items())
    monkeypatch.setattr(trainer, "_draw", draw)
    assert "skipped" not in trainer.step(64, 0.25)
    assert any((trainer.generator.state_dict()[k] != v).any() for k, v in before.items())
    assert math.isfinite(trainer.guard.mean) and not trainer.guard.accepts(1000 * trainer.guard.mean)
    assert all(v.isfinite().all() for v in trainer.adversary.network.state_dict().values())


def test_nothing_is_judged_where_nobody_is_held_out(data, encoded, wheel, monkeypatch, capsys):
    crops = Crops(data / "ready")
    trainer = Trainer([crops], encoded, wheel, weights_folder(), Settings(batch=2, photos=0))
    people = crops.people()
    monkeypatch.setattr(crops, "people", lambda held_out=False: people[:1] if held_out else people)
    assert validate(trainer, 64, 0.25)["pixel"] >= 0
    monkeypatch.setattr(crops, "people", lambda held_out=False: [] if held_out else people)
    assert validate(trainer, 64, 0.25) is None
    monkeypatch.setattr(generator, "sheet", lambda *_: None)
    monkeypatch.setattr(trainer, "save", lambda: None)
    told = []
    generator._report(trainer, generator.Stage(64, 0.25, 1), SimpleNamespace(write=told.append))
    assert "nobody is held out" in told[0] and "0.0000" not in told[0]


def test_crops_of_any_size_look_the_same_to_the_encoder(data, encoded, tmp_path):
    """The encoder sees 128 px whatever the crops have; 512 px were shrunk by the factor for 256."""
    ready, large = Crops(data / "ready"), tmp_path / "large"
    large.mkdir()
    images = np.stack([cv2.resize(image, (512, 512)) for image in ready.images[:16]])
    np.save(large / "crops.npy", images)
    rows = (data / "ready" / "table.csv").read_text().splitlines(keepends=True)
    (large / "table.csv").write_text("".join(rows[:17]))
    encoder, _ = load_encoder(encoded)
    index = np.arange(16)
    small = features_of(encoder, ready, index, "cpu")
    assert np.abs(features_of(encoder, Crops(large), index, "cpu") - small).mean() < small.std()
    pictures = EncoderPictures([data / "ready", large], torch.device("cpu"))
    both = pictures.load([(0, 3), (1, 3)])  # sets of two sizes in one batch
    assert both.shape == (2, 3, 128, 128) and (both[0] - both[1]).abs().mean() < 0.03


def test_a_resumed_autoencoder_has_its_minutes_behind_it(data, tmp_path):
    def resumed():
        pictures = EncoderPictures([data / "ready"], torch.device("cpu"))
        return AutoencoderTrainer(pictures, tmp_path, Device(), 4, 1e-3)

    first = resumed()
    first.train(steps=2, loss_below=0.0, minutes=None)
    assert first.seconds > 0
    again = resumed()
    assert again.step == 2 and again.seconds == first.seconds and again.loss_mean == first.loss_mean
    again.seconds = 61.0
    again.save()
    again = resumed()
    again.train(steps=1000, loss_below=0.0, minutes=1.0)
    assert again.step == 2  # its minute is over
    state = torch.load(tmp_path / "autoencoder.pt", weights_only=True)
    del state["seconds"], state["loss_mean"]  # as an earlier version wrote it
    torch.save(state, tmp_path / "autoencoder.pt")
    assert resumed().step == 2


@pytest.fixture
def forty_jobs(tmp_path, monkeypatch):
    """A stage whose pictures cost nothing.

    (folder, arguments of `prepare`, the files that were looked at).
    """
    monkeypatch.setattr(prepare_stage, "PART", 8)
    (tmp_path / "labels.csv").write_text("file,age\n" + "".join(f"{i}.jpg,{20 + i}\n" for i in range(40)))
    looked_at = []

    def run_jobs(jobs, workers, size):
        for [picture] in jobs:
            looked_at.append(picture.file)
            number = int(picture.file.split(".")[0])
            if number % 10 == 9:  # nothing usable
                yield []
                continue
            row = [picture.kind, picture.file, picture.person, picture.age, "1", "", "30.00", "0"]
            yield [Prepared(row, np.full((size, size, 5), number, np.uint8))]

    monkeypatch.setattr(prepare_stage, "run_jobs", run_jobs)
    return tmp_path / "out", {"photos": tmp_path, "labels": tmp_path / "labels.csv", "size": 16}, looked_at


@pytest.mark.parametrize("end", ["killed", "asked to stop"])
def test_preparing_goes_on_where_it_was_stopped(forty_jobs, monkeypatch, end):
    out, arguments, looked_at = forty_jobs
    assert prepare(out, **arguments) == 36
    crops, table = (out / "crops.npy").read_bytes(), (out / "table.csv").read_bytes()
    assert not (out / "unfinished").exists() and list(Crops(out).images[:, 0, 0, 0])[8:10] == [8, 10]
    whole = prepare_stage.run_jobs

    def stopped_at_20(jobs, workers, size):
        for k, result in enumerate(whole(jobs, workers, size)):
            if k == 20 and end == "killed":
                raise KeyboardInterrupt
            if k == 20:
                os.kill(os.getpid(), signal.SIGTERM)
            yield result

    monkeypatch.setattr(prepare_stage, "run_jobs", stopped_at_20)
    with pytest.raises(KeyboardInterrupt if end == "killed" else SystemExit):
        prepare(out, **arguments)
    # what was there is as it was, and fits together
    assert (out / "crops.npy").read_bytes() == crops and (out / "table.csv").read_bytes() == table
    monkeypatch.setattr(prepare_stage, "run_jobs", whole)
    looked_at.clear()
    assert prepare(out, **arguments) == 36 and looked_at[0] == "16.jpg" and len(looked_at) == 24
    assert (out / "crops.npy").read_bytes() == crops and (out / "table.csv").read_bytes() == table
    assert not (out / "unfinished").exists()


def test_what_was_prepared_of_other_pictures_is_not_used(forty_jobs, monkeypatch):
    out, arguments, looked_at = forty_jobs
    whole = prepare_stage.run_jobs

    def stopped_at_20(jobs, workers, size):
        for k, result in enumerate(whole(jobs, workers, size)):
            if k == 20:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(prepare_stage, "run_jobs", stopped_at_20)
    with pytest.raises(KeyboardInterrupt):
        prepare(out, **arguments)
    with pytest.raises(AgeEditError, match=r"table\.csv is missing"):
        Crops(out)  # half of it is not taken for all
    monkeypatch.setattr(prepare_stage, "run_jobs", whole)
    looked_at.clear()
    assert prepare(out, **(arguments | {"size": 32})) == 36 and len(looked_at) == 40
    assert Crops(out).images.shape == (36, 32, 32, 5)


def test_crops_beside_the_table_of_another_run_are_refused(forty_jobs):
    out, arguments, _ = forty_jobs
    prepare(out, **arguments)
    np.save(out / "crops.npy", np.zeros((12, 16, 16, 5), np.uint8))
    with pytest.raises(AgeEditError, match="12 crops and a table of 36"):
        Crops(out)


def test_a_worker_that_dies_ends_the_stage(monkeypatch):
    """A pool would wait for its results for ever."""
    monkeypatch.setattr(prepare_stage, "_start_worker", os._exit)
    with pytest.raises(AgeEditError, match="fewer --workers"):
        list(prepare_stage.run_jobs([[]], 1, 16))


def test_perceptual_distance(wheel):
    torch.manual_seed(0)
    p, a = Perceptual(wheel), torch.rand(2, 3, 64, 64) * 2 - 1
    assert p(a, a).abs().max() == 0 and (p(a, a.flip(3)) > 0).all()


@pytest.mark.parametrize(
    "row,words", [("a.jpg,old,", "age from 0 to 120"), ("a.jpg,30,robot", "gender"), ("a.jpg,,", "age")]
)
def test_a_bad_csv_is_named(tmp_path, row, words):
    (tmp_path / "l.csv").write_text("file,age,gender\n" + row + "\n")
    with pytest.raises(AgeEditError, match=words):
        prepare(tmp_path / "out", tmp_path, tmp_path / "l.csv")


def test_a_folder_without_any_face(tmp_path):
    save_photo(tmp_path / "a.png", np.full((200, 200, 3), 90, np.uint8))
    (tmp_path / "l.csv").write_text("file,age\na.png,30\n")
    with pytest.raises(AgeEditError, match="No usable face"):
        prepare(tmp_path / "out", tmp_path, tmp_path / "l.csv", workers=1)


def test_one_command_does_all_stages(data, wheel, tmp_path):
    """`train all` on a folder of faces, a few steps a stage.

    Weights that edit, calibrated, and the figures of the photos held out.
    """
    out, run = tmp_path / "weights", tmp_path / "run"
    out.mkdir()
    shutil.copytree(data / "ready", run / "data")  # prepared already
    arguments = [
        "all",
        "--photos",
        data / "photos",
        "--labels",
        data / "labels.csv",
        "--pairs",
        data / "pairs",
        "--run",
        run,
        "--perceptual",
        wheel,
        "--weights",
        out,
        "--largest",
        "64",
        "--autoencoder-minutes",
        "0.02",
        "--generator-minutes",
        "0.02",
    ]
    refused = CliRunner().invoke(stages, [str(v) for v in arguments])
    assert refused.exit_code == 2 and "copy them from the released weights folder" in refused.output
    for name in THIRD_PARTY:
        shutil.copy(weights_folder() / name, out)
    result = CliRunner().invoke(stages, [str(v) for v in arguments])
    assert result.exit_code == 0, result.output
    weights = Weights(out)
    assert (
        weights.resolutions == [64]
        and weights.has_ranges
        and len(weights.manifest["quality"]) == len(weights.candidates)
    )
    figures = json.loads((run / "evaluate.json").read_text())
    assert figures["photos"] > 0 and np.isfinite(figures["plus30"]["judged_change"])
