"""A recipe says everything a run depends on, and refuses what it does not know."""

from pathlib import Path

import pytest
import yaml
from small import MODEL, recipe, stacks

from gvtnets_tf.data.augmentation import Intensity
from gvtnets_tf.models.presets import PRESETS
from gvtnets_tf.training.recipe import Recipe

# What is in it.


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fills_in_its_published_numbers(name):
    published = PRESETS[name].training
    found = Recipe.parse({"preset": name})
    assert (found.steps, found.batch, found.loss) == tuple(
        published[key] for key in ("steps", "batch", "loss")
    )
    assert found.patch == tuple(published["patch"])
    assert (found.normalize, found.schedule) == (published["normalize"], published["schedule"])
    assert found.axes == PRESETS[name].axes


def test_what_is_given_comes_before_the_preset():
    changes = {"loss": "mae", "schedule": {"rate": 1}, "normalize": {"denormalize": "none"}}
    found = Recipe.parse({"preset": "denoising", **changes})
    assert found.loss == "mae"
    assert found.schedule == {"rate": 1, "decay": 0.7, "every": 10_000}
    assert found.normalize == {"input": "percentile", "target": "percentile", "denormalize": "none"}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"stepps": 3}, "`key of recipe` cannot be 'stepps'. Did you mean 'steps'"),
        ({"data": {"input": "*"}}, "`key of data` cannot be 'input'. Did you mean 'inputs'"),
        ({"normalize": {"targets": "none"}}, "`key of normalize` cannot be 'targets'"),
        ({"augment": {"flipp": True}}, "Did you mean 'flip'"),
        ({"schedule": {"lr": 1}}, "`key of schedule` cannot be 'lr'"),
        ({"optimizer": {"beta": 1}}, "`key of optimizer` cannot be 'beta'. Did you mean 'beta_"),
        (
            {"model": {**MODEL, "filter": 2}},
            "`key of model` cannot be 'filter'. Did you mean 'filt",
        ),
        ({"model": {**MODEL, "class": "GVTnet"}}, "`model.class` cannot be 'GVTnet'. Did you me"),
        ({"model": {}}, "`model.class` cannot be None"),
        ({"preset": "denoise"}, "`preset` cannot be 'denoise'. Did you mean 'denoising'"),
        ({"preset": "denoising"}, "A preset has a class of its own.*class='GVTNet'"),
        ({"loss": "mea"}, "`loss` cannot be 'mea'. Did you mean"),
        ({"weighting": "forground"}, "Did you mean 'foreground'"),
        (
            {"normalize": {"denormalize": "inputs"}},
            "`denormalize` cannot be 'inputs'. Did you mean 'input'",
        ),
        (
            {"normalize": {"target": "input", "denormalize": "stored"}},
            "has none of its own to store",
        ),
        ({"steps": 0}, "`steps` must be at least 1. Received: steps=0"),
        ({"batch": 0}, "`batch` must be at least 1"),
        ({"epoch": 0}, "`epoch` must be at least 1"),
        ({"select": 1}, "`select` must be a share from 0 to below 1. Received: 1"),
        ({"data": {"regions": {"trian": {}}}}, "`part` cannot be 'trian'. Did you mean 'train'"),
        ({"data": {"regions": {"train": {"W": [0, 3]}}}}, "`axes` must be distinct letters"),
    ],
)
def test_what_is_not_known_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Recipe.parse(recipe(".", **changes))


def test_a_recipe_must_be_a_mapping():
    with pytest.raises(ValueError, match=r"A recipe is a mapping\. Received: list"):
        Recipe.parse(["denoising"])


# Files.


def test_a_file_says_what_is_wrong_with_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no recipe at .*none\.yaml"):
        Recipe.load(tmp_path / "none.yaml")
    for text, message in (
        ("preset: [denoising", r"r\.yaml is not YAML"),
        ("!!python/object/apply:os.system [ls]", r"r\.yaml is not YAML"),
        ("", "A recipe is a mapping. Received: NoneType"),
    ):
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(ValueError, match=message):
            Recipe.load(tmp_path / "r.yaml")


@pytest.mark.parametrize("root", [None, ".", "../data", "/somewhere"])
def test_what_is_dumped_into_a_folder_is_the_same_recipe(tmp_path, monkeypatch, root):
    # The root is relative to the recipe, so that it holds wherever the recipe is read.
    place = tmp_path / "deep" / "run"
    place.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    values = recipe(root, model={}, preset="denoising", augment={"flip": True})
    if root is None:
        del values["data"]["root"]
    first = Recipe.parse(values)
    (place / "recipe.yaml").write_text(first.dump("deep/run"))
    again = Recipe.load("deep/run/recipe.yaml")
    assert again.dump(place) == first.dump(place)
    expected = (tmp_path / (root or ".")).resolve()
    assert (tmp_path / again.data["root"]).resolve() == expected
    assert again.changed(data={}) == first.changed(data={})
    assert yaml.safe_load(first.dump())["steps"] == 6


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
    made = [Recipe.parse({**gvtnet, "model": model}).build(channels) for model in models]
    assert [type(block).__name__ for model in made for block in model.bottoms] == [
        "GVTO",
        "ResidualBlock",
    ]
    sizes = [model.count_params() for model in made]
    assert max(sizes) / min(sizes) <= 1.02


def test_the_network_has_one_output_per_target_channel():
    made = Recipe.parse(recipe(".", model={**MODEL, "input_residual": False})).build((2, 3))
    assert made.out_channels == 3
    with pytest.raises(ValueError, match=r"targets have 3 channels\. Received: out_channels=2"):
        Recipe.parse(recipe(".", model={**MODEL, "out_channels": 2})).build((1, 3))


@pytest.mark.parametrize("loss, scaled", [("laplace", True), ("gaussian", True), ("mae", False)])
def test_the_loss_decides_whether_a_scale_is_predicted(loss, scaled):
    assert Recipe.parse(recipe(".", loss=loss)).build((1, 1)).scale_head is scaled
    small = {"filters": 2}
    made = Recipe.parse({"preset": "denoising", "model": small, "loss": loss}).build((1, 1))
    assert made.scale_head is scaled
    wrong = Recipe.parse(recipe(".", loss=loss, model={**MODEL, "scale_head": not scaled}))
    with pytest.raises(ValueError, match=f"'{loss}' needs a network with scale_head={scaled}"):
        wrong.build((1, 1))


def test_the_rank_decides_the_axes():
    assert Recipe.parse(recipe(".")).axes == "ZYX"
    assert Recipe.parse(recipe(".", model={**MODEL, "rank": 2})).axes == "YX"
    two = Recipe.parse({"preset": "denoising", "model": {"rank": 2, "filters": 2}})
    assert two.axes == "YX"
    assert two.build((1, 1)).rank == 2


def test_a_projection_passes_the_rules_on_to_its_restoration():
    changes = {"projection": {"filters": 2}, "restoration": {"filters": 4}}
    made = Recipe.parse({"preset": "projection", "model": changes}).build((1, 1))
    assert (made.restore.out_channels, made.restore.scale_head) == (1, False)
    assert (made.restore.filters, made.restore.depth) == (4, 3)
    made = Recipe.parse({"model": {"class": "ProjectionGVTNet"}, "loss": "laplace"}).build((1, 1))
    assert made.scale_head is True


# The data.


def test_the_target_of_a_projection_has_the_axes_of_its_input_but_z(tmp_path):
    data = recipe(stacks(tmp_path, task="projection", suffix=".npy"))["data"]
    made = Recipe.parse({"preset": "projection", "data": {**data, "axes": "zyx"}})
    assert {(s.input.axes, s.target.axes) for s in made.samples()} == {("ZYX", "YX")}


def test_a_target_may_be_normalized_by_its_input():
    made = Recipe.parse(recipe(".", normalize={"input": "zscore", "target": "input"}))
    assert made.rules == {"input": "zscore", "target": "none"}
    assert Recipe.parse(recipe(".")).rules == {"input": "percentile", "target": "percentile"}


def test_which_part_to_choose_by_is_left_to_the_samples_with_a_gap_of_one_patch(tmp_path):
    made = Recipe.parse(recipe(stacks(tmp_path), patch=[8, 16, 24], select=0.25))
    train, select = made.divided(made.samples())
    # 80 voxels along X: 24 to choose by, a gap of 24, and the rest.
    assert {s.input.sizes["X"] for s in train} == {32}
    assert {s.input.sizes["X"] for s in select} == {24}


# Virtual staining.

TINY = {"filters": 2, "growth": 2, "encoder_depths": [1], "bottom_depth": 1, "decoder_depths": [1]}


def staining(**changes):
    values = {"preset": "gpt_virtual_staining", "model": TINY, "patch": [8, 8], **changes}
    return Recipe.parse(values)


def test_virtual_staining_reads_three_scales_and_predicts_a_distribution_per_label():
    made = staining()
    assert (made.scales, made.axes, made.loss) == ((1, 2, 0.5), "YX", "masked_crossentropy")
    net = made.build((13, 3))
    assert (net.out_channels, net.classes) == (3, 256)
    assert net.stem.kernel.shape == (39, 2)
    assert staining(model={**TINY, "classes": 16}).build((1, 1)).classes == 16
    assert staining(scales=[1]).build((13, 3)).stem.kernel.shape == (13, 2)


@pytest.mark.parametrize("loss", ["masked_mse", "mae"])
def test_another_loss_makes_it_a_regression(loss):
    assert staining(loss=loss).build((1, 2)).classes is None
    wrong = staining(loss=loss, model={**TINY, "classes": 16})
    with pytest.raises(ValueError, match=f"'{loss}' needs a network with classes=None.*Rec.* 16"):
        wrong.build((1, 2))


def test_a_network_without_distributions_has_no_crossentropy():
    with pytest.raises(ValueError, match=r"'masked_crossentropy' needs a network with classes=256"):
        Recipe.parse(recipe(".", loss="masked_crossentropy")).build((1, 1))
    with pytest.raises(ValueError, match=r"'laplace' needs a network with scale_head=True"):
        staining(loss="laplace").build((1, 1))


def test_light_is_changed_as_the_recipe_says():
    assert staining().intensity is None
    light = {"gain": 0.2, "drop": 0.1}
    assert staining(augment={"intensity": light}).intensity == Intensity(gain=0.2, drop=0.1)
    with pytest.raises(ValueError, match="Did you mean 'gain'"):
        staining(augment={"intensity": {"gian": 0.2}})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"scales": [2, 0.5]}, "`scales` must hold 1"),
        ({"patch": [8, 10]}, "10 pixels along X cannot be cut at scale 0.5"),
        ({"data": {"lables": ["DAPI"]}}, "Did you mean 'labels'"),
        ({"loss": "masked_cross_entropy"}, "Did you mean 'masked_crossentropy'"),
    ],
)
def test_what_staining_does_not_know_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        staining(**changes)
    with pytest.raises(ValueError, match="Several scales are of YX windows"):
        Recipe.parse(recipe(".", scales=[1, 2]))


@pytest.mark.parametrize(
    "values, text",
    [
        ({"scales": 2}, "`scales` is a list of numbers. Received: 2."),
        ({"patch": 16}, "`patch` is a list of numbers. Received: 16."),
        ({"patch": ["a", 8]}, r"`patch` is a list of numbers. Received: \['a', 8\]"),
        ({"augment": {"intensity": {"gain": 2}}}, "`augment.intensity.gain` must be below 1"),
        ({"augment": {"intensity": {"gain": "x"}}}, "`augment.intensity.gain` is a number"),
        ({"augment": {"intensity": {"gian": 1}}}, "Did you mean 'gain'"),
        ({"normalize": {"target": "zscore"}}, "from 0 to 1: normalize the target by 'percentile'"),
    ],
)
def test_a_staining_recipe_that_cannot_work_is_refused_before_the_data_are_read(values, text):
    with pytest.raises(ValueError, match=text):
        Recipe.parse({"preset": "gpt_virtual_staining", **values})
