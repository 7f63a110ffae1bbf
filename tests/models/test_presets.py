"""The presets: their numbers, and what small ones answer.

The published networks' own answers are held in `test_parity.py`. `frozen_answers.json`
guards the same computations of every preset, also of those without published answers, with
few filters and weights that follow from their names. It was written by
`python tests/models/test_presets.py`, at a commit where the parity tests passed; what is in it
is never changed, and that command adds a new preset. The GPT paper has no published answers:
its presets are guarded from the day `test_gpt.py` passed.
"""

import json
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.fnet import FNet
from gvtnets_tf.models.gpt import GlobalPixelTransformerNet
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.losses import CLASSES, LOSSES, PROBABILISTIC
from gvtnets_tf.models.presets import PRESETS, preset
from gvtnets_tf.models.projection import ProjectionGVTNet

FROZEN = Path(__file__).with_name("frozen_answers.json")
RESTORATION = PRESETS["projection"].config["restoration"]
# Without dropout, whose random numbers are no part of the answer.
GPT = {
    "out_channels": 2, "classes": 5, "filters": 4, "growth": 2, "encoder_depths": (1, 2),
    "bottom_depth": 2, "decoder_depths": (1, 1), "dropout": 0.0, "chunk": 6,
}  # fmt: skip
SMALL = {
    "label_free": ({"filters": 4}, (2, 8, 16, 16, 1)),
    "denoising": ({"filters": 4}, (2, 4, 8, 12, 1)),
    "projection": (
        {
            "projection": {"filters": 4, "num_heads": 2},
            "restoration": {**RESTORATION, "filters": 4},
        },
        (2, 5, 16, 32, 1),
    ),
    "unet": ({"filters": 4}, (2, 4, 8, 12, 1)),
    "fnet": ({"filters": 4, "depth": 3}, (2, 8, 8, 16, 1)),
    "gpt_virtual_staining": (GPT, (2, 8, 12, 6)),
    "gpt_dense_unet": (GPT, (2, 8, 12, 6)),
    "gpt_unet": (GPT, (2, 8, 12, 6)),
}

# Biases without any gradient but rounding noise: those in front of a batch normalization, and
# those of the keys of a softmax.
STILL = dict.fromkeys(SMALL, (".conv/bias",))
STILL |= {
    n: (".conv/bias", ".convs.0/bias", ".convs.1/bias", ".key/bias") for n in SMALL if "gpt" in n
}


def value(name, shape):
    """Weights that depend on the name and the shape only."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    role = name.rsplit("/", 1)[-1]
    if role in ("gamma", "moving_variance"):
        return rng.uniform(0.7, 1.3, shape)
    if role == "kernel":
        return rng.normal(0, 1, shape) / np.sqrt(np.prod(shape[:-1]))
    return rng.normal(0, 0.1, shape)


def numbers(array):
    """A few numbers that no other array is likely to share: norm, sum and some entries."""
    x = np.asarray(array, np.float64).ravel()
    entries = x[:: max(1, len(x) // 5)][:5]
    return [float(f"{v:.8g}") for v in (np.linalg.norm(x), x.sum(), *entries)]


def target(kind, shape, rng):
    """A random target for the loss of a preset; of classes, some are missing."""
    if kind in CLASSES:
        return rng.randint(-1, shape[-1], shape[:-1])
    channels = shape[-1] // (2 if kind in PROBABILISTIC else 1)
    return rng.normal(size=(*shape[:-1], channels)).astype("float32")


def answers(name):
    """What the small preset answers, in prediction and in training."""
    changes, shape = SMALL[name]
    model = preset(name, **changes)
    model.build(shape)
    weights = named_weights(model)
    for key, w in weights.items():
        w.assign(value(key, w.shape))
    rng = np.random.RandomState(0)
    x = rng.normal(size=shape).astype("float32")
    found = {"prediction": numbers(model(x))}
    kind = PRESETS[name].training["loss"]
    y = target(kind, model(x).shape, rng)
    with tf.GradientTape() as tape:
        answer = model(x, training=True)
        loss = LOSSES[kind]()(y, answer)
    found |= {"training": numbers(answer), "loss": float(f"{float(loss):.8g}")}
    trained = {k: w for k, w in weights.items() if w.trainable and not k.endswith(STILL[name])}
    gradients = tape.gradient(loss, [w.value for w in trained.values()])
    norms = {key: float(np.linalg.norm(g)) for key, g in zip(trained, gradients)}
    found["gradients"] = {key: float(f"{norm:.6g}") for key, norm in norms.items()}
    moved = [w for w in weights.values() if not w.trainable]
    found["moved"] = float(f"{np.sqrt(sum(np.square(w).sum() for w in moved)):.8g}")
    return found


@pytest.mark.parametrize("name", SMALL)
def test_a_small_preset_answers_as_when_it_met_the_published_one(name):
    expected, found = json.loads(FROZEN.read_text())[name], answers(name)
    for key in ("prediction", "training", "loss", "moved"):
        assert found[key] == pytest.approx(expected[key], rel=1e-5, abs=1e-5), key
    assert found["gradients"] == pytest.approx(expected["gradients"], rel=1e-4, abs=1e-7)
    assert all(norm > 0 for norm in found["gradients"].values())


def test_every_preset_is_guarded():
    assert PRESETS.keys() == SMALL.keys() == json.loads(FROZEN.read_text()).keys()


def test_presets_build_networks_with_the_published_numbers():
    net = preset("label_free")
    assert type(net) is GVTNet
    assert net.divisor == (8, 8, 8)
    assert list(net.operators) == ["bottoms.0"]
    net = preset("denoising")
    assert list(net.operators) == ["bottoms.0", "ups.1", "ups.0"]
    assert {operator.num_heads for operator in net.operators.values()} == {2}
    assert net.scale_head
    net = preset("projection")
    assert type(net) is ProjectionGVTNet
    assert net.divisor == (1, 16, 16)
    assert preset("unet").operators == {}
    net = preset("fnet")
    assert type(net) is FNet
    assert (net.divisor, net.operators) == ((16, 16, 16), {})
    net = preset("gpt_virtual_staining")
    assert type(net) is GlobalPixelTransformerNet
    assert (net.divisor, net.operators) == ((8, 8), {})
    assert (net.out_channels, net.classes, net.dropout) == (8, 256, 0.5)


def test_the_presets_of_the_ablation_differ_in_one_part_each():
    steps = [PRESETS[name] for name in ("gpt_unet", "gpt_dense_unet", "gpt_virtual_staining")]
    kinds = [(one.config["block"], one.config["resample"]) for one in steps]
    assert kinds == [
        ("convolution", "convolution"),
        ("dense", "convolution"),
        ("dense", "transformer"),
    ]
    rest = [{**one.config, "block": None, "resample": None} for one in steps]
    assert rest[0] == rest[1] == rest[2]
    assert steps[0].training == steps[1].training == steps[2].training


def test_virtual_staining_is_trained_as_printed():
    # Section IV-B, and the multi-scale input of section III-D.
    training = PRESETS["gpt_virtual_staining"].training
    assert training["loss"] == "masked_crossentropy"
    assert (training["patch_size"], training["scales"]) == ([128, 128], [1, 2, 0.5])
    assert (training["batch_size"], training["learning_rate"]) == (4, 1e-5)
    # 16-bit labels become 0..255 by percentiles of the data set, undone on output.
    assert training["normalize"]["target"] == {
        "kind": "percentile", "low": 0.1, "high": 99.9, "scope": "dataset",
    }  # fmt: skip
    assert training["normalize"]["denormalize"] == "stored"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_where_its_numbers_come_from_and_how_it_was_trained(name):
    one = PRESETS[name]
    assert len(one.source) > 20
    assert one.training["loss"] in LOSSES
    assert keras.optimizers.Adam(**one.training["optimizer"])
    rank = len(one.axes)
    assert len(one.training["patch_size"]) == rank == preset(name).rank
    # A probabilistic loss needs a scale per voxel, a cross-entropy a distribution.
    net, loss = preset(name), one.training["loss"]
    assert getattr(net, "scale_head", False) == (loss in PROBABILISTIC)
    assert bool(getattr(net, "classes", None)) == (loss in CLASSES)


def test_presets_give_the_units_of_the_targets_and_keep_what_was_published():
    for name, one in PRESETS.items():
        rules, published = one.training["normalize"], one.published.get("normalize")
        if name in ("label_free", "fnet"):
            assert rules == {"input": "zscore", "target": "zscore", "denormalize": "stored"}
            assert published == {**rules, "denormalize": "none"}
        elif name in ("denoising", "projection"):
            assert rules == {"input": "percentile", "target": "input", "denormalize": "input"}
            assert published == {**rules, "target": "percentile"}
        else:
            assert published is None


def test_a_preset_with_other_numbers_is_another_network():
    net = preset("label_free", filters=2, rank=2)
    assert (net.filters, net.rank, net.depth) == (2, 2, 4)
    assert PRESETS["label_free"].config["filters"] == 32


def test_an_unknown_preset_is_named_with_the_nearest():
    text = "`preset` cannot be 'label-free'. Did you mean 'label_free'?"
    with pytest.raises(ValueError) as error:
        preset("label-free")
    assert str(error.value) == text


def test_an_argument_that_the_network_lacks_is_named():
    with pytest.raises((TypeError, ValueError), match="filterz"):
        preset("label_free", filterz=3)


if __name__ == "__main__":
    frozen = json.loads(FROZEN.read_text()) if FROZEN.exists() else {}
    frozen |= {name: answers(name) for name in SMALL if name not in frozen}
    FROZEN.write_text(json.dumps(frozen, indent=1) + "\n")
