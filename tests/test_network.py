"""The patent's counts (S21, S25), and the elastic rule.

Slicing equals the PyTorch sub-network, ONNX equals both.
"""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PORTRAITS
from torch import nn

from agedit import AgeEditor, load_photo, runtime
from agedit.errors import AgeEditError
from agedit.graph import encoder_graph, generator_graph, photo_inputs
from agedit.network.autoencoder import CONVOLUTIONS, Autoencoder, Encoder
from agedit.network.discriminator import TRUNK, Discriminator, trunk_inputs
from agedit.network.generator import Generator, Patch, UpsampleTwice
from agedit.packing import ways
from agedit.runtime import open_session, open_submodel, runtime_name, uses_openvino
from agedit.submodel import RATIOS, WIDTHS, blocks, cost, slice_weights


def count(model, kind):
    return sum(isinstance(m, kind) for m in model.modules())


def test_encoder_and_decoder_have_the_patents_counts():
    model = Autoencoder()
    assert [count(model.encoder, k) for k in (nn.Conv2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Linear)] == [
        10,
        1,
        1,
        1,
    ]
    assert [count(model.decoder, k) for k in (nn.Conv2d, nn.Upsample)] == [3, 3]
    x = torch.rand(2, 3, 128, 128)
    assert model.encoder(x).shape == (2, 512) and model(x).shape == (2, 3, 64, 64)


def test_generator_has_the_patents_counts_up_to_1024():
    model = Generator()
    assert [count(model, k) for k in (nn.Conv2d, nn.Upsample, nn.Linear)] == [24, 8, 8]
    assert list(WIDTHS) == [8, 16, 32, 64, 128, 256, 512, 1024] and model.start.shape[-2:] == (4, 4)


def test_discriminator_has_the_patents_counts():
    model = Discriminator()
    assert [count(model, k) for k in (nn.Conv2d, nn.Linear)] == [4, 2]
    for r in (64, 128):
        trunk = [torch.rand(2, 2 * n, (r >> k) - 2, (r >> k) - 2) for k, n in enumerate(TRUNK, 1)]
        logits, features = model(torch.rand(2, 3, r, r), torch.zeros(2), torch.zeros(2, 3, r, r), trunk)
        assert logits.shape == (2, r // 16, r // 16) and len(features) == 4


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return Generator(256).eval()


@pytest.mark.parametrize("r", [64, 128, 256])
@pytest.mark.parametrize("c", RATIOS)
def test_onnx_sub_model_equals_pytorch(generator, r, c):
    weights = {k: v.detach().numpy() for k, v in generator.state_dict().items()}
    f, photo = torch.randn(1, 512), torch.rand(1, 3, r, r) * 2 - 1
    session = open_session(generator_graph(weights, r, c))
    for seen in (photo, None):
        with torch.no_grad():
            expected = generator(f, seen, r, c).numpy()
        got = session.run(
            None, {"f": f.numpy(), **photo_inputs((photo if seen is not None else photo * 0).numpy())}
        )[0]
        assert got.shape == (1, 3, r, r)
        rim = (
            3 if ways(r, blocks(r, c)[-1][2])[0] else 0
        )  # what joining an upsampling to its convolution changes
        apart, scale = np.abs(got - expected), max(1, np.abs(expected).max())
        assert apart[..., rim : r - rim, rim : r - rim].max() < 1e-4 * scale and apart.max() < 0.5 * scale


@pytest.mark.parametrize("r,c", [(512, 0.25), (1024, 0.25), (1024, 0.5), (1024, 1.0)])
def test_packed_blocks_draw_the_same(r, c):
    torch.manual_seed(1)
    generator, f, photo = Generator(1024).eval(), torch.randn(1, 512), torch.rand(1, 3, r, r) * 2 - 1
    assert any(ways(size, width)[0] for size, _, width in blocks(r, c))
    with torch.no_grad():
        expected = generator(f, photo, r, c).numpy()
    weights = {k: v.detach().numpy() for k, v in generator.state_dict().items()}
    got, rim = (
        open_session(generator_graph(weights, r, c)).run(
            None, {"f": f.numpy(), **photo_inputs(photo.numpy())}
        )[0],
        r // 16,
    )
    apart, scale = np.abs(got - expected), np.abs(expected).max()
    assert apart[..., rim:-rim, rim:-rim].max() < 1e-4 * scale and apart.max() < 0.5 * scale


def test_what_packing_changes_lies_under_the_masks_rim(engine):
    for path in PORTRAITS:
        editor = AgeEditor(engine)
        editor.set_photo(load_photo(path))
        mask = editor.prepare(0).mask
        assert (
            max(mask[:3].max(), mask[-3:].max(), mask[:, :3].max(), mask[:, -3:].max()) < 0.06
            and mask.max() > 0.9
        )


def test_a_patch_equals_that_part_of_the_whole(generator):
    f, photo = torch.randn(2, 512), torch.rand(2, 3, 256, 256) * 2 - 1
    whole = generator(f, photo, 256, 0.5)
    part, below = generator.forward_patch(f, photo, 256, 0.5, Patch(10, 30, 40))
    assert torch.allclose(part[..., 8:-8, 8:-8], whole[..., 28:92, 68:132], atol=1e-4)
    assert (
        torch.allclose(below, generator(f, photo, 128, 0.5), atol=1e-5)
        and part.requires_grad
        and not below.requires_grad
    )


def test_upsampling_has_its_exact_gradient():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(UpsampleTwice.apply, (x,))
    y = UpsampleTwice.apply(x)
    weights = torch.randn_like(y)  # as a GPU computes it
    assert torch.allclose(
        torch.autograd.grad((y * weights).sum(), x)[0], UpsampleTwice.backward_by_pooling(weights)
    )


@pytest.mark.processor
@pytest.mark.skipif(not uses_openvino(), reason="OpenVINO is not installed")
@pytest.mark.parametrize("r,c", [(64, 0.25), (256, 0.25), (256, 1.0)])
def test_openvino_equals_onnx_runtime(generator, r, c):
    weights = {k: v.detach().numpy() for k, v in generator.state_dict().items()}
    graph = generator_graph(weights, r, c)
    feed = {
        "f": np.random.default_rng(0).standard_normal((1, 512)).astype(np.float32),
        **photo_inputs(np.random.default_rng(1).uniform(-1, 1, (1, 3, r, r)).astype(np.float32)),
    }
    expected = open_session(graph).run(None, feed)[0]
    scale = np.abs(expected).max()
    assert np.abs(open_submodel(graph, 2, "f32")(feed) - expected).max() < 1e-4 * scale
    assert (
        np.abs(open_submodel(graph, 2)(feed) - expected).max() < 0.03 * scale
    )  # bf16 where the processor has it


@pytest.mark.skipif(not uses_openvino(), reason="OpenVINO is not installed")
def test_openvino_comes_without_its_telemetry():
    """It would report every import to an analytics server."""
    code = (
        "import sys; from agedit.runtime import runtime_name; runtime_name(); "
        "found = [m for m in sys.modules if m.startswith('openvino_telemetry') and sys.modules[m]]; "
        "assert 'openvino' in sys.modules and not found"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "lower,ms,quickest",
    [
        ("bf16", {"bf16": 2, "i8": 0.9, "f32": 1}, "f32"),
        ("bf16", {"bf16": 2, "i8": 0.3, "f32": 1}, "i8"),
        ("bf16", {"bf16": 1, "i8": 0.9, "f32": 5}, "bf16"),
        ("bf16", {"bf16": 1, "i8": 0.6, "f32": 2}, "i8"),
        ("bf16", {"bf16": 0.95, "i8": 0.9, "f32": 1}, "f32"),
        ("f16", {"f16": 1, "i8": 0.9, "f32": 5}, "f16"),
        ("f32", {"i8": 0.3, "f32": 1}, "i8"),
        ("f32", {"i8": 0.9, "f32": 1}, "f32"),
    ],
)
def test_precision_is_what_is_quicker(monkeypatch, lower, ms, quickest):
    """A processor may have bf16 or int8 without being quick in it."""
    now = [0.0]

    def take(precision):
        now[0] += ms[precision] / 1e3

    core = SimpleNamespace(get_property=lambda *_: SimpleNamespace(get_type_name=lambda: lower))
    monkeypatch.setattr(runtime, "openvino_core", lambda: core)
    monkeypatch.setattr(
        runtime, "open_submodel", lambda model, threads, precision: lambda feed: take(precision)
    )
    monkeypatch.setattr(runtime.time, "perf_counter", lambda: now[0])
    assert runtime.precisions.__wrapped__()[1] == quickest


def test_the_runtime_can_be_named(monkeypatch):
    monkeypatch.setenv("AGEDIT_RUNTIME", "onnxruntime")
    assert not uses_openvino() and runtime_name().startswith("onnxruntime")
    monkeypatch.setenv("AGEDIT_RUNTIME", "abacus")
    with pytest.raises(AgeEditError, match="openvino or onnxruntime"):
        uses_openvino()


def test_every_layer_keeps_its_first_kernels(generator):
    full = {k: v.detach().numpy() for k, v in generator.state_dict().items()}
    part = slice_weights(full, 128, 0.25)
    for size in (8, 16, 32, 64, 128):
        keep = WIDTHS[size] // 4
        for layer in ("conv1", "conv2"):
            name = f"blocks.{size}.{layer}.weight"
            assert part[name].shape[0] == keep
            assert np.array_equal(part[name], full[name][:keep, : part[name].shape[1]])
    assert not any("blocks.256" in name for name in part)


def test_cost_counts_what_the_arrays_hold(generator):
    full = {k: v.detach().numpy() for k, v in generator.state_dict().items()}
    for r, c in ((64, 0.25), (128, 0.75), (256, 1.0)):
        assert cost(r, c)["parameters"] == sum(v.size for v in slice_weights(full, r, c).values())
    assert cost(256, 0.25)["macs"] < cost(256, 1)["macs"] / 7
    assert 20e9 < cost(1024)["macs"] < 30e9 and 5e9 < cost(128)["macs"] < 10e9


def test_onnx_encoder_equals_pytorch_with_folded_norms():
    from agedit.training.export import folded_encoder

    torch.manual_seed(1)
    encoder = Encoder()
    encoder(torch.rand(8, 3, 128, 128))  # gives the batch norms something to fold
    encoder.eval().requires_grad_(False)
    x = torch.rand(1, 3, 128, 128) * 2 - 1
    session = open_session(encoder_graph(folded_encoder(encoder), CONVOLUTIONS, 128))
    assert np.abs(session.run(None, {"photo": x.numpy()})[0] - encoder(x).numpy()).max() < 1e-3


def test_discriminator_sees_the_age_the_change_and_the_trunks_marks():
    torch.manual_seed(1)
    d, x = Discriminator(), torch.rand(1, 3, 64, 64)
    photo = [torch.rand(1, n, (64 >> k) - 2, (64 >> k) - 2) for k, n in enumerate(TRUNK, 1)]
    marked = [v + 0.1 * torch.rand_like(v) for v in photo]

    def ask(age=0.0, change=0.0, features=photo, edited=True):
        return d(x, torch.tensor([age]), change * x, trunk_inputs(features, photo, torch.tensor([edited])))[0]

    assert all((ask() != v).any() for v in (ask(age=1.0), ask(change=0.1), ask(features=marked)))
    assert all(
        (v[:, n:] == 0).all()
        for v, n in zip(trunk_inputs(marked, photo, torch.tensor([False])), TRUNK, strict=True)
    )  # no photo, no change
    assert all(
        (v[:, n:] != 0).any()
        for v, n in zip(trunk_inputs(marked, photo, torch.tensor([True])), TRUNK, strict=True)
    )
