"""A recipe becomes a network that fits its loss, and pairs that are measured."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from small import MODEL, recipe, stacks

from gvtnets_tf.images import writers
from gvtnets_tf.images.image import Image
from gvtnets_tf.training.preparation import build_network, open_splits, prepare
from gvtnets_tf.training.recipe import Recipe

TINY = {"filters": 2, "growth": 2, "encoder_depths": [1], "bottom_depth": 1, "decoder_depths": [1]}


def build(values, channels=(1, 1)):
    return build_network(Recipe.parse(values), channels)


def staining(**changes):
    values = {"preset": "gpt_virtual_staining", "model": TINY, "patch_size": [8, 8], **changes}
    return Recipe.parse(values)


# The network.


def test_the_cell_painting_networks_differ_in_the_operator_and_not_in_size():
    folder = Path(__file__).parents[2] / "examples" / "cellpaint"
    gvtnet, unet = (
        yaml.safe_load((folder / name).read_text()) for name in ("gvtnet.yaml", "unet.yaml")
    )
    models = gvtnet.pop("model"), unet.pop("model")
    assert gvtnet == unet
    keys = {key for m in models for key in m if models[0].get(key) != models[1].get(key)}
    assert keys == {"filters", "bottom"}
    channels = tuple(len(gvtnet["data"][f"{side}_channels"]) for side in ("input", "target"))
    networks = [build({**gvtnet, "model": model}, channels) for model in models]
    assert [type(block).__name__ for model in networks for block in model.bottoms] == [
        "GVTO",
        "ResidualBlock",
    ]
    sizes = [model.count_params() for model in networks]
    assert max(sizes) / min(sizes) <= 1.02


def test_the_network_has_one_output_per_target_channel():
    net = build(recipe(".", model={**MODEL, "input_residual": False}), (2, 3))
    assert net.out_channels == 3
    with pytest.raises(ValueError, match=r"targets have 3 channels\. Received: out_channels=2"):
        build(recipe(".", model={**MODEL, "out_channels": 2}), (1, 3))


def test_a_patch_that_the_network_cannot_halve_is_refused_before_the_weights_are_made():
    values = recipe(".", model={**MODEL, "depth": 20})
    text = r"`patch_size` must be a multiple of \(524288, 524288, 524288\), .*Received: \[8, 16, 16"
    with pytest.raises(ValueError, match=text):
        build(values)


@pytest.mark.parametrize("loss, scaled", [("laplace", True), ("gaussian", True), ("mae", False)])
def test_the_loss_decides_whether_a_scale_is_predicted(loss, scaled):
    assert build(recipe(".", loss=loss)).scale_head is scaled
    small = {"filters": 2}
    assert build({"preset": "denoising", "model": small, "loss": loss}).scale_head is scaled
    wrong = recipe(".", loss=loss, model={**MODEL, "scale_head": not scaled})
    with pytest.raises(ValueError, match=f"'{loss}' needs a network with scale_head={scaled}"):
        build(wrong)


def test_the_rank_of_a_preset_can_be_changed():
    small = {"rank": 2, "filters": 2}
    assert build({"preset": "denoising", "model": small, "patch_size": [64, 64]}).rank == 2


def test_a_projection_passes_the_rules_on_to_its_restoration():
    changes = {"projection": {"filters": 2}, "restoration": {"filters": 4}}
    net = build({"preset": "projection", "model": changes})
    assert (net.restore.out_channels, net.restore.scale_head) == (1, False)
    assert (net.restore.filters, net.restore.depth) == (4, 3)
    assert build({"model": {"class": "ProjectionGVTNet"}, "loss": "laplace"}).scale_head is True


def test_virtual_staining_predicts_a_distribution_per_label():
    net = build_network(staining(), (13, 3))
    assert (net.out_channels, net.classes) == (3, 256)
    assert net.stem.kernel.shape == (39, 2)
    assert build_network(staining(model={**TINY, "classes": 16}), (1, 1)).classes == 16
    assert build_network(staining(scales=[1]), (13, 3)).stem.kernel.shape == (13, 2)


@pytest.mark.parametrize("loss", ["masked_mse", "mae"])
def test_another_loss_makes_it_a_regression(loss):
    assert build_network(staining(loss=loss), (1, 2)).classes is None
    wrong = staining(loss=loss, model={**TINY, "classes": 16})
    with pytest.raises(ValueError, match=f"'{loss}' needs a network with classes=None.*Rec.* 16"):
        build_network(wrong, (1, 2))


def test_a_network_without_distributions_has_no_crossentropy():
    with pytest.raises(ValueError, match=r"'masked_crossentropy' needs a network with classes=256"):
        build(recipe(".", loss="masked_crossentropy"))
    with pytest.raises(ValueError, match=r"'laplace' needs a network with scale_head=True"):
        build_network(staining(loss="laplace"), (1, 1))


# The data.


def test_the_target_of_a_projection_has_the_axes_of_its_input_but_z(tmp_path):
    data = recipe(stacks(tmp_path, task="projection", suffix=".npy"))["data"]
    values = {"preset": "projection", "data": {**data, "axes": "zyx"}, "validation_split": 0}
    training, validation = open_splits(Recipe.parse(values))
    assert {(pair.input.axes, pair.target.axes) for pair in training} == {("ZYX", "YX")}
    assert (len(training), validation) == (2, [])


def test_training_and_validation_are_apart_by_a_gap_of_one_patch(tmp_path):
    values = recipe(stacks(tmp_path), patch_size=[8, 16, 24], validation_split=0.25)
    training, validation = open_splits(Recipe.parse(values))
    # 80 voxels along X: 24 for validation, a gap of 24, and the rest.
    assert {pair.input.sizes["X"] for pair in training} == {32}
    assert {pair.input.sizes["X"] for pair in validation} == {24}


def write_pairs(folder, inputs, targets, axes="ZYX"):
    for i, pair in enumerate(zip(inputs, targets)):
        for side, array in zip(("in", "gt"), pair):
            writers.write(folder / side / f"{i}.tif", Image(array.astype("float32"), axes))
    return recipe(folder, validation_split=0)


RNG = np.random.default_rng(0)
LIGHT = RNG.poisson(100, (2, 8, 16, 16))
DYE = np.stack([1000 + 10 * LIGHT[0], 3000 + 30 * LIGHT[1]])  # another exposure each


@pytest.mark.parametrize("denormalize", ["none", "stored", "input"])
def test_statistics_of_the_targets_are_the_mean_of_those_they_are_trained_with(
    tmp_path, denormalize
):
    values = write_pairs(tmp_path, LIGHT, DYE)
    rules = {"input": "zscore", "target": "zscore", "denormalize": denormalize}
    pairs, _, card = prepare(Recipe.parse({**values, "normalize": rules}))
    # What the network is trained on is published, whatever units come out.
    assert card.target_normalizer.kind == "zscore"
    for pair, target in zip(pairs, DYE):
        np.testing.assert_allclose(pair.target_affine.offset, target.mean(), rtol=1e-6)
    expected = {"offset": DYE.mean((1, 2, 3)).mean(), "gain": DYE.std((1, 2, 3)).mean()}
    for name, value in expected.items():
        np.testing.assert_allclose(card.target_statistics[name], [value], rtol=1e-6)
    assert card.denormalize == denormalize


def test_a_label_counts_where_it_was_taken_and_one_never_taken_is_not_scaled(tmp_path):
    targets = np.stack([DYE, 2 * DYE, DYE], axis=1).astype(float)
    targets[0, 1] = targets[:, 2] = np.nan
    values = write_pairs(tmp_path, np.stack([LIGHT] * 3, axis=1), targets, "CZYX")
    values |= {"loss": "masked_mse", "normalize": {"target": "zscore", "denormalize": "stored"}}
    statistics = prepare(Recipe.parse(values))[2].target_statistics
    spread = DYE.std((1, 2, 3))
    np.testing.assert_allclose(statistics["gain"], [spread.mean(), 2 * spread[1], 1], rtol=1e-6)
    assert statistics["offset"][2] == 0


def test_a_target_that_takes_the_statistics_of_its_input_has_them_stored(tmp_path):
    values = write_pairs(tmp_path, LIGHT, DYE)
    rules = {"input": "zscore", "target": "input", "denormalize": "stored"}
    card = prepare(Recipe.parse({**values, "normalize": rules}))[2]
    spread = LIGHT.std((1, 2, 3)).mean()
    np.testing.assert_allclose(card.target_statistics["gain"], [spread], rtol=1e-6)


def test_a_target_cannot_take_the_statistics_of_other_channels(tmp_path):
    both = np.stack([LIGHT, LIGHT], axis=1)
    values = write_pairs(tmp_path, both, both, "CZYX")
    values["data"] |= {"target_channels": [1]}
    text = (
        "Targets of 1 channels cannot be normalized by the statistics of 2 input channels: set "
        "`normalize.target` to a rule of its own, such as 'percentile'. Received: 'input'."
    )
    with pytest.raises(ValueError, match=text):
        prepare(Recipe.parse({**values, "normalize": {"target": "input"}}))


def test_the_card_keeps_the_channels_of_the_file_beside_those_that_are_read(tmp_path):
    both = np.stack([LIGHT, DYE], axis=1)
    values = write_pairs(tmp_path, both, both, "CZYX")
    values["data"] |= {"input_channels": [1], "target_channels": [0]}
    card = prepare(Recipe.parse(values))[2]
    assert (card.input_channels, card.output_channels) == (("channel 1",), ("channel 0",))
    assert card.file_channels == ("channel 0", "channel 1")
