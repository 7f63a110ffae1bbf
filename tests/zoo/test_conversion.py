"""Checkpoints with the published names become model folders that answer as published.

The released files are not at hand: these tests write checkpoints with their names and
shapes, and with the weights of the parity files.
"""

import sys
import types

import numpy as np
import pytest
from checkpoints import Parity, save

from gvtnets_tf import load, read, write
from gvtnets_tf.cli import main as cli
from gvtnets_tf.images.image import Image
from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.fnet import FNet
from gvtnets_tf.zoo import model_folder, torch_state
from gvtnets_tf.zoo.conversion import convert_fnet, convert_tf1
from gvtnets_tf.zoo.weight_names import fnet_name, from_torch, is_weight, torch_shape

TASKS = ("label_free", "denoising", "projection")


@pytest.fixture(scope="module")
def published(parity):
    return Parity(parity)


def stack(x):
    """The image of a batch of one, without its channel."""
    return np.asarray(x)[0, ..., 0]


# TensorFlow 1.


@pytest.fixture(scope="module")
def checkpoints(published, tmp_path_factory):
    path = tmp_path_factory.mktemp("tf1")
    return {
        task: save(path / task / "model.ckpt-pretrained", published.variables(task))
        for task in TASKS
    }


@pytest.mark.parametrize("task", TASKS)
def test_a_converted_checkpoint_predicts_as_published(published, checkpoints, tmp_path, task):
    out = convert_tf1(checkpoints[task], tmp_path / "model", task, normalize="none")
    predictor, answers = load(out), published.answers(task)
    for x, expected in zip(answers["x"], answers.get("output", answers.get("output_inference"))):
        found = predictor(x[..., 0], whole=True)
        np.testing.assert_allclose(found, expected[..., 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_the_commands_convert_and_predict_as_published(published, checkpoints, tmp_path, task):
    model, answers = tmp_path / "model", published.answers(task)
    words = ["convert", "tf1", str(checkpoints[task]), "--preset", task, "--normalize", "none"]
    cli.main([*words, "--out", str(model)])
    write(tmp_path / "x.tif", Image(stack(answers["x"]), "ZYX"))
    words = ["predict", str(tmp_path / "x.tif"), "--model", str(model), "--whole"]
    cli.main([*words, "--out", str(tmp_path / "y.tif")])
    expected = stack(answers.get("output", answers.get("output_inference")))
    found = read(tmp_path / "y.tif").numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_every_weight_is_the_one_of_the_checkpoint(published, checkpoints, tmp_path):
    out = convert_tf1(checkpoints["denoising"], tmp_path / "m", "denoising")
    model, _ = model_folder.read_model(out)
    found = sorted(float(np.abs(w).sum()) for w in named_weights(model).values())
    expected = sorted(float(np.abs(v).sum()) for v in published.variables("denoising").values())
    assert found == pytest.approx(expected)


def test_cards_of_converted_checkpoints_say_how_to_use_them(checkpoints, tmp_path):
    def card(task, **options):
        out = convert_tf1(checkpoints[task], tmp_path / "m", task, force=True, **options)
        return load(out).card

    found = card("label_free")
    assert (found.input_normalizer.kind, found.target_normalizer.kind, found.denormalize) == (
        "zscore",
        "zscore",
        "none",
    )
    assert (found.axes, found.output_axes, found.probabilistic) == ("ZYX", "ZYX", False)
    assert found.voxel_size == {"Y": 0.29, "X": 0.29}
    assert found.license.startswith("GPL-3.0")
    assert "model.ckpt-pretrained.data-00000-of-00001, SHA-256 " in found.provenance

    found = card("denoising")
    assert (found.input_normalizer.kind, found.target_normalizer.kind, found.denormalize) == (
        "percentile",
    ) * 2 + ("input",)
    assert found.probabilistic
    found = card("projection", normalize="zscore")
    assert (found.axes, found.output_axes, found.input_normalizer.kind) == ("ZYX", "YX", "zscore")


def test_the_command_converts_a_checkpoint(published, checkpoints, tmp_path, capsys):
    out = tmp_path / "model"
    index = f"{checkpoints['denoising']}.index"  # the prefix, or one of its files
    cli.main(["convert", "tf1", index, "--preset", "denoising", "--out", str(out)])
    assert capsys.readouterr().out == f"{out}\n"
    predictor, answers = load(out), published.answers("denoising")
    # In camera counts, by the percentiles of the input, and back.
    low, high = np.percentile(x := stack(answers["x"]), (2, 99.8))
    y = predictor.model((answers["x"][:1] - low) / (high - low))[..., :1]
    expected = stack(y) * (high - low) + low
    np.testing.assert_allclose(predictor(x, whole=True), expected, rtol=1e-4, atol=1e-4)


def test_a_checkpoint_is_never_replaced_by_its_model(checkpoints, monkeypatch):
    monkeypatch.setattr("gvtnets_tf.atomic_files.is_own", lambda path: True)
    folder = checkpoints["denoising"].parent
    before = sorted(folder.iterdir())
    with pytest.raises(
        ValueError, match=r"denoising is an input of this run, or holds one \(.*data-"
    ):
        convert_tf1(checkpoints["denoising"], folder, "denoising", force=True)
    file = folder / before[0].name
    with pytest.raises(ValueError, match="is an input of this run, or holds one"):
        convert_fnet(file, file, force=True)
    assert sorted(folder.iterdir()) == before


def test_a_damaged_checkpoint_is_named(checkpoints, tmp_path):
    prefix, out = tmp_path / "model.ckpt", tmp_path / "model"
    index, data = (tmp_path / f"model.ckpt{end}" for end in (".index", ".data-00000-of-00001"))
    source = checkpoints["denoising"]
    whole = [source.with_name(source.name + end) for end in (".index", ".data-00000-of-00001")]

    def refused(error, message):
        with pytest.raises(error) as found:
            convert_tf1(prefix, out, "denoising")
        assert message in str(found.value)
        assert not out.exists()

    refused(FileNotFoundError, f"There is no {index}: a checkpoint is model.ckpt.index and")
    index.write_bytes(whole[0].read_bytes())
    refused(FileNotFoundError, f"There is no {data}: a checkpoint is model.ckpt.index and")
    data.write_bytes(whole[1].read_bytes()[:-5000])
    refused(ValueError, f"{prefix} cannot be read as a TensorFlow checkpoint: it is truncated")
    spoiled = bytearray(whole[1].read_bytes())
    spoiled[::4096] = bytes(255 - byte for byte in spoiled[::4096])
    data.write_bytes(bytes(spoiled))
    refused(ValueError, f"{prefix} cannot be read as a TensorFlow checkpoint: it is truncated")
    data.write_bytes(whole[1].read_bytes())
    index.write_bytes(whole[0].read_bytes()[:-100])
    refused(ValueError, f"{prefix} cannot be read as a TensorFlow checkpoint: it is truncated")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda v: v.pop("first_convolution/kernel"),
            "as preset 'denoising' does not fit: 1 weights find no value (stem/kernel), 0 of its "
            "entries have no place (). Is it another network, or another preset?",
        ),
        (
            lambda v: v.update({"another/kernel": np.zeros(3, "float32")}),
            "does not fit: 0 weights find no value (), 1 of its entries have no place "
            "(another/kernel).",
        ),
        (
            # Its own name here, besides the published one of the same weight.
            lambda v: v.update({"stem/kernel": v["first_convolution/kernel"]}),
            "does not fit: 0 weights find no value (), 1 of its entries have no place "
            "(stem/kernel).",
        ),
        (
            lambda v: v.update({"first_convolution/kernel": np.zeros((3, 3, 3, 2, 32), "float32")}),
            "does not fit: first_convolution/kernel has shape (3, 3, 3, 2, 32), but "
            "(3, 3, 3, 1, 32) is needed.",
        ),
        (
            lambda v: v.update({"out_conv/kernel": np.zeros((2, 1, 1, 32, 1), "float32")}),
            "does not fit: out_conv/kernel has shape (2, 1, 1, 32, 1), but (1, 1, 1, 32, 1)",
        ),
        (
            lambda v: v.update({"out_conv/kernel": np.full((1, 1, 1, 32, 1), np.nan, "float32")}),
            "does not fit: out_conv/kernel must hold finite floating-point numbers.",
        ),
    ],
    ids=["missing", "left over", "twice", "shape", "kernel", "nan"],
)
def test_a_checkpoint_that_does_not_fit_is_named(published, tmp_path, spoil, message):
    variables = published.variables("denoising")
    spoil(variables)
    prefix = save(tmp_path / "model.ckpt", variables)
    with pytest.raises(ValueError) as error:
        convert_tf1(prefix, tmp_path / "model", "denoising")
    assert message in str(error.value)
    assert not (tmp_path / "model").exists()


def test_the_wrong_preset_is_named(checkpoints, tmp_path):
    with pytest.raises(ValueError, match=r"as preset 'label_free' does not fit: .* another preset"):
        convert_tf1(checkpoints["denoising"], tmp_path / "model", "label_free")


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"preset": "fnet"}, ValueError, "`preset` cannot be 'fnet'. Choose one of ['denoising'"),
        ({"preset": "denoisin"}, ValueError, "Did you mean 'denoising'?"),
        ({"preset": "denoising"}, FileNotFoundError, "nothing.index: a checkpoint is"),
    ],
)
def test_what_cannot_be_a_checkpoint_is_refused(tmp_path, options, error, message):
    with pytest.raises(error) as found:
        convert_tf1(tmp_path / "nothing", tmp_path / "model", **options)
    assert message in str(found.value)


def test_memory_of_the_optimizer_and_counters_are_no_weights():
    for name in ("global_step", "beta1_power", "x/beta2_power_1", "out_conv/kernel/Adam_1"):
        assert not is_weight(name)
    for name in ("out_conv/kernel", "batch_norm_output/beta", "x/Adam/kernel", "beta1_powers"):
        assert is_weight(name)


# pytorch_fnet.


def test_a_converted_fnet_predicts_as_published(published, tmp_path):
    np.savez(tmp_path / "state.npz", **published.state())
    out = convert_fnet(tmp_path / "state.npz", tmp_path / "model", normalize="none")
    predictor, answers = load(out), published.answers("fnet")
    for x, expected in zip(answers["x"], answers["output_inference"]):
        np.testing.assert_allclose(predictor(x[0], whole=True), expected[0], rtol=0, atol=1e-5)
    assert (predictor.model.depth, predictor.model.filters) == (5, 32)


def small_state(rank=3, seed=0):
    """The state of a small fnet by the names of torch, and the network it belongs to."""
    net = FNet(rank, out_channels=2, filters=2, depth=3)
    net.build((None,) * (rank + 1) + (3,))
    own, rng = named_weights(net), np.random.default_rng(seed)
    state = {}
    for level in range(3):
        at = "net_recurse." + "sub_u." * level
        parts = [f"sub_2conv_more.{part}" for part in ("conv1", "bn1", "conv2", "bn2")]
        if level < 2:
            parts += [part.replace("more", "less") for part in parts]
            parts += ["conv_down", "bn0", "convt", "bn1"]
        for part in parts:
            norm = part.rsplit(".", 1)[-1].startswith("bn")
            for leaf in ("weight", "bias") + ("running_mean", "running_var") * norm:
                name = f"{at}{part}.{leaf}"
                shape = torch_shape(tuple(own[fnet_name(name)].shape))
                state[name] = rng.uniform(0.5, 1.5, shape).astype("float32")
            if norm:
                state[f"{at}{part}.num_batches_tracked"] = np.array(3, np.int64)
    state |= {"conv_out.bias": np.zeros(2, "float32")}
    state |= {"conv_out.weight": rng.normal(size=(2, 2) + (3,) * rank).astype("float32")}
    for name, value in state.items():
        if not name.endswith("num_batches_tracked"):
            own[fnet_name(name)].assign(from_torch(value))
    return state, net


def same(out, net, x):
    back, card = model_folder.read_model(out)
    np.testing.assert_allclose(back(x), net(x), rtol=1e-5, atol=1e-5)
    return card


@pytest.mark.parametrize("rank", [2, 3])
def test_depth_filters_and_channels_are_read_off_the_shapes(noise, tmp_path, rank):
    state, net = small_state(rank)
    np.savez_compressed(tmp_path / "state.npz", **state)
    out = convert_fnet(tmp_path / "state.npz", tmp_path / "model")
    card = same(out, net, noise(1, *(4, 8, 8)[-rank:], 3))
    assert card.axes == card.output_axes == "ZYX"[-rank:]
    assert (card.input_normalizer.kind, card.target_normalizer.kind, card.denormalize) == (
        "zscore",
        "zscore",
        "none",
    )
    assert card.voxel_size == dict.fromkeys("ZYX"[-rank:], 0.3)
    assert "non-commercial" in card.license
    assert "state.npz, SHA-256 " in card.provenance


def test_the_command_converts_a_state(noise, tmp_path, capsys):
    state, net = small_state()
    np.savez(tmp_path / "state.npz", **state)
    words = ["convert", "fnet", str(tmp_path / "state.npz"), "--out", str(tmp_path / "m")]
    cli.main([*words, "--normalize", "percentile"])
    assert capsys.readouterr().out == f"{tmp_path / 'm'}\n"
    assert same(tmp_path / "m", net, noise(1, 4, 4, 4, 3)).input_normalizer.kind == "percentile"

    for extra, message in (
        ([], f"{tmp_path / 'm'} exists and is not overwritten"),
        (["--force", "--preset", "denoising"], "--preset names the released checkpoint"),
    ):
        with pytest.raises(SystemExit) as stopped:
            cli.main([*words, *extra])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    cli.main([*words, "--force"])
    assert same(tmp_path / "m", net, noise(1, 4, 4, 4, 3)).input_normalizer.kind == "zscore"


def test_tf1_needs_a_preset(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["convert", "tf1", "model.ckpt", "--out", str(tmp_path / "m")])
    assert stopped.value.code == 2
    assert "--preset names the released checkpoint" in capsys.readouterr().err


def test_safetensors_are_read(noise, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    state, net = small_state()
    numpy.save_file(state, tmp_path / "state.safetensors")
    same(convert_fnet(tmp_path / "state.safetensors", tmp_path / "m"), net, noise(1, 4, 4, 4, 3))
    (tmp_path / "state.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(ValueError, match="cannot be read: it is truncated or damaged"):
        convert_fnet(tmp_path / "state.safetensors", tmp_path / "other")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".p"])
def test_a_torch_file_is_read_by_torch(noise, tmp_path, suffix):
    torch = pytest.importorskip("torch")
    state, net = small_state()
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}
    torch.save({"nn_state": tensors, "count_iter": 3}, tmp_path / f"model{suffix}")
    same(convert_fnet(tmp_path / f"model{suffix}", tmp_path / "m"), net, noise(1, 4, 4, 4, 3))


def test_a_torch_file_that_would_run_code_is_refused_by_torch(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"nn_state": {}, "class": types.SimpleNamespace()}, tmp_path / "model.p")
    with pytest.raises(ValueError, match="would have to run code, which is never done here"):
        convert_fnet(tmp_path / "model.p", tmp_path / "m")


class Tensor:
    """As much of a tensor as is asked for here."""

    def __init__(self, value):
        self.value = value

    def detach(self):
        return self

    def float(self):
        return Tensor(np.asarray(self.value, np.float32))

    def numpy(self):
        return self.value


@pytest.fixture
def torch_holding(monkeypatch, tmp_path):
    """Make `torch.load` find something in a file, where torch itself is not installed."""

    def hold(found):
        def read(file, map_location, weights_only):
            assert (map_location, weights_only) == ("cpu", True)
            if isinstance(found, Exception):
                raise found
            return found

        stand_in = types.SimpleNamespace(load=read, Tensor=Tensor)
        monkeypatch.setattr(torch_state, "import_optional", lambda module, extra: stand_in)
        (tmp_path / "model.p").touch()
        return tmp_path / "model.p"

    return hold


@pytest.mark.parametrize("key", ["nn_state", None])
def test_a_state_may_lie_under_nn_state(noise, tmp_path, torch_holding, key):
    state, net = small_state()
    tensors = {name: Tensor(value) for name, value in state.items()}
    file = torch_holding({key: tensors, "count_iter": 3} if key else tensors)
    same(convert_fnet(file, tmp_path / "m"), net, noise(1, 4, 4, 4, 3))


@pytest.mark.parametrize(
    "found, message",
    [
        (
            RuntimeError("Weights only load failed. More text."),
            "would have to run code, which is never done here. If you trust it, write its arrays "
            "with torch: state = torch.load('model.p', weights_only=False)['nn_state']; "
            "numpy.savez('state.npz', **{k: v.cpu().numpy() for k, v in state.items()}); and "
            "convert state.npz. (RuntimeError: Weights only load failed)",
        ),
        ({"nn_state": {"a": 3}}, "must hold a mapping from names to tensors"),
        ([1, 2], "by itself or under 'nn_state'. Received: list."),
    ],
)
def test_a_torch_file_of_something_else_is_refused(tmp_path, torch_holding, found, message):
    with pytest.raises(ValueError) as error:
        convert_fnet(torch_holding(found), tmp_path / "m")
    assert message in str(error.value)


@pytest.mark.parametrize("suffix, extra", [(".safetensors", "safetensors"), (".p", "torch")])
def test_a_missing_package_is_named(monkeypatch, tmp_path, suffix, extra):
    monkeypatch.setitem(sys.modules, extra, None)
    monkeypatch.setitem(sys.modules, f"{extra}.numpy", None)
    (tmp_path / f"model{suffix}").touch()
    with pytest.raises(ModuleNotFoundError) as error:
        convert_fnet(tmp_path / f"model{suffix}", tmp_path / "m")
    assert f"pip install 'gvtnets_tf[{extra}]'" in str(error.value)


FIRST = "net_recurse.sub_2conv_more.conv1.weight"


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda s: s.pop("net_recurse.convt.bias"),
            "as the state of pytorch_fnet does not fit: 1 weights find no value (ups.0.conv/bias)",
        ),
        (
            lambda s: s.update({"net_recurse.extra.weight": np.zeros(3, "float32")}),
            "1 of its entries have no place (net_recurse.extra.weight)",
        ),
        (
            lambda s: s.update({"net_recurse.convt.weight": np.zeros((2, 4, 2, 2, 2), "float32")}),
            "net_recurse.convt.weight has shape (2, 4, 2, 2, 2), but (4, 2, 2, 2, 2) is needed.",
        ),
        (
            lambda s: s.update({"net_recurse.bn0.bias": np.zeros(2, "int64")}),
            "net_recurse.bn0.bias must hold finite floating-point numbers. Received: type int64",
        ),
        (
            lambda s: s.pop(FIRST),
            f"is not the state of a pytorch_fnet network: it has no kernel {FIRST}. Received: c",
        ),
        (lambda s: s.clear(), "Received: nothing."),
        (
            # A file of few bytes cannot ask for a network of many.
            lambda s: s.update({FIRST: np.zeros((4096, 3, 3, 3, 3), "float32")}),
            "from 4096 filters, 3 levels lead to 16384. Received: net_recurse.sub_u.sub_u.",
        ),
    ],
    ids=["missing", "left over", "shape", "type", "another", "empty", "wide"],
)
def test_a_state_that_does_not_fit_is_named(tmp_path, spoil, message):
    state, _ = small_state()
    spoil(state)
    np.savez(tmp_path / "state.npz", **state)
    with pytest.raises(ValueError) as error:
        convert_fnet(tmp_path / "state.npz", tmp_path / "m")
    assert message in str(error.value)
    assert not (tmp_path / "m").exists()


def test_an_unknown_normalization_is_named(tmp_path):
    np.savez(tmp_path / "state.npz", **small_state()[0])
    with pytest.raises(
        ValueError, match=r"`normalize` cannot be 'zscores'\. Did you mean 'zscore'"
    ):
        convert_fnet(tmp_path / "state.npz", tmp_path / "m", normalize="zscores")


def test_a_damaged_or_unsafe_file_is_named(monkeypatch, tmp_path):
    file, out = tmp_path / "state.npz", tmp_path / "m"

    def refused(error, message, file=file):
        with pytest.raises(error) as found:
            convert_fnet(file, out)
        assert message in str(found.value)

    refused(FileNotFoundError, f"There is no file {file}.")
    np.savez(file, **small_state()[0])
    whole = file.read_bytes()
    file.write_bytes(whole[:-1000])
    refused(ValueError, "cannot be read: it is truncated or damaged")
    spoiled = bytearray(whole)
    spoiled[len(spoiled) // 2] ^= 255
    file.write_bytes(bytes(spoiled))
    refused(ValueError, "state.npz")
    np.savez(file, a=np.array([{}], object))
    refused(ValueError, "must hold plain arrays, as numpy.savez writes them (")
    (tmp_path / "state.h5").touch()
    refused(ValueError, "`format` cannot be '.h5'.", tmp_path / "state.h5")
    file.write_bytes(whole)
    monkeypatch.setattr(torch_state, "LARGEST", len(whole) - 1)
    refused(ValueError, f"holds {len(whole)} bytes, more than the {len(whole) - 1} that are read")
    # Packed small, unpacked large.
    np.savez_compressed(file, a=np.zeros(100_000))
    refused(ValueError, "holds 800128 bytes, more than")


@pytest.mark.parametrize("part", ["name", "method", "magic", "header", "shape", "directory"])
def test_a_damaged_state_is_one_line_whatever_part_of_it(tmp_path, part):
    file = tmp_path / "state.npz"
    np.savez(file, **small_state()[0])
    data = bytearray(file.read_bytes())
    places = {
        "name": data.index(b".npy"),
        "method": data.index(b"PK\x01\x02") + 10,
        "magic": data.index(b"\x93NUMPY"),
        "header": data.index(b"{'descr'"),
        "shape": data.index(b"'shape': (") + 10,
        "directory": data.rindex(b"PK\x05\x06") + 16,
    }
    data[places[part] : places[part] + 2] = b"((" if part in ("header", "shape") else b"\x63\x63"
    file.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"state\.npz (cannot be read: it is trunc|must hold plain)"
    ):
        convert_fnet(file, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_the_errors_of_a_state_have_one_line(tmp_path):
    file = tmp_path / "state.npz"
    np.savez(file, **small_state()[0])
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 40):
            data[place] ^= 1 << rng.integers(8)
        file.write_bytes(data)
        with pytest.raises(ValueError, match=r"state\.npz") as error:
            torch_state.read_state(file)
        assert "\n" not in str(error.value)
