"""A recipe says everything a run depends on, and refuses what it does not know."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from small import MODEL, SHAPE, recipe, stacks

from gvtnets_tf.data import writers
from gvtnets_tf.data.image import Image
from gvtnets_tf.models.presets import PRESETS
from gvtnets_tf.recipe import Recipe, Sample


def flat(size, axes="ZYX", name="flat"):
    """An image of zeros, each of whose axes has `size` voxels or what a mapping says."""
    sizes = {letter: 4 for letter in axes} | size
    return Image(np.zeros([sizes[a] for a in axes], np.float32), axes, name=name)


def sample(width, part="", **about):
    return Sample(flat({"X": width}, **about), flat({"X": width}, **about), part)


def widths(samples):
    return [s.input.sizes["X"] for s in samples]


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
    assert found.axes == "ZYX"


def test_what_is_given_comes_before_the_preset():
    changes = {"loss": "mae", "schedule": {"rate": 1}, "normalize": {"undo": "none"}}
    found = Recipe.parse({"preset": "denoising", **changes})
    assert found.loss == "mae"
    assert found.schedule == {"rate": 1, "decay": 0.7, "every": 10_000}
    assert found.normalize == {"input": "percentile", "target": "percentile", "undo": "none"}


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
        ({"normalize": {"undo": "inputs"}}, "`undo` cannot be 'inputs'. Did you mean 'input'"),
        ({"normalize": {"target": "input", "undo": "stored"}}, "has none of its own to store"),
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
    folder = Path(__file__).parents[1] / "examples" / "cellpaint"
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


def test_pairs_come_from_globs_in_natural_order(tmp_path):
    found = Recipe.parse(recipe(stacks(tmp_path))).samples()
    assert [(s.input.name, s.target.name) for s in found] == [("0", "0"), ("1", "1")]
    assert {s.part for s in found} == {""}
    assert {s.input.shape for s in found} == {SHAPE}


def test_pairs_and_their_parts_come_from_a_table(tmp_path):
    stacks(tmp_path, 3)
    parts = ("train", "select", "report")
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        rows = [(f"in/{i}.tif", f"gt/{i}.tif", part) for i, part in enumerate(parts)]
        csv.writer(file).writerows([("input", "target", "split"), *rows])
    made = Recipe.parse(recipe(tmp_path, data={"root": str(tmp_path), "csv": "pairs.csv"}))
    assert [s.part for s in made.samples()] == list(parts)
    train, select = made.divided(made.samples())
    assert ([s.input.name for s in train], [s.input.name for s in select]) == (["0"], ["1"])


def test_pairs_come_from_npz(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "care.npz", X=rng.random((3, 1, 4, 8, 8)), Y=rng.random((3, 2, 4, 8, 8)),
        axes="SCZYX",
    )  # fmt: skip
    made = Recipe.parse(recipe(".", data={"root": str(tmp_path), "npz": "care.npz"}))
    found = made.samples()
    assert [s.input.name for s in found] == ["care_0", "care_1", "care_2"]
    assert found[0].target.sizes == {"C": 2, "Z": 4, "Y": 8, "X": 8}


def test_channels_are_chosen_on_each_side(tmp_path):
    array = np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4)
    image = Image(array, "ZCYX", channel_names=("light", "dna", "er"))
    writers.write(tmp_path / "a.ome.tif", image)
    data = {"root": str(tmp_path), "inputs": "a.ome.tif", "targets": "a.ome.tif"}
    chosen = {"input_channels": [0], "target_channels": ["er", 1]}
    (found,) = Recipe.parse(recipe(".", data=data | chosen)).samples()
    np.testing.assert_array_equal(found.input.numpy("CZYX")[0], array[:, 0])
    np.testing.assert_array_equal(found.target.numpy("ZCYX"), array[:, [2, 1]])
    with pytest.raises(ValueError, match=r"has no channel 'rna': it has 3 \(light, dna, er\)"):
        Recipe.parse(recipe(".", data=data | {"input_channels": ["rna"]})).samples()


def test_regions_cut_parts_out_of_every_image(tmp_path):
    regions = {"train": {"X": [0, 40]}, "select": {"X": [48, 64], "Y": [0, 16]}}
    data = {**recipe(stacks(tmp_path))["data"], "regions": regions}
    made = Recipe.parse(recipe(".", data=data))
    train, select = made.divided(made.samples())
    assert {s.input.shape for s in train} == {s.target.shape for s in train} == {(8, 32, 40)}
    assert {s.input.shape for s in select} == {(8, 16, 16)}
    assert len(train) == len(select) == 2
    data["regions"] = {"train": {"X": [0, 81]}}
    with pytest.raises(ValueError, match=r"The region X: \[0, 81\] is not inside 0 with axes ZYX"):
        Recipe.parse(recipe(".", data=data)).samples()


def test_a_projection_has_regions_of_its_stack_along_z(tmp_path):
    data = {**recipe(stacks(tmp_path, task="projection"))["data"]}
    data["regions"] = {"train": {"Z": [0, 4], "X": [0, 32]}}
    found = Recipe.parse(recipe(".", data=data)).samples()
    assert (found[0].input.shape, found[0].target.shape) == ((4, 32, 32), (32, 32))


def test_the_target_of_a_projection_has_the_axes_of_its_input_but_z(tmp_path):
    data = recipe(stacks(tmp_path, task="projection", suffix=".npy"))["data"]
    made = Recipe.parse({"preset": "projection", "data": {**data, "axes": "zyx"}})
    assert {(s.input.axes, s.target.axes) for s in made.samples()} == {("ZYX", "YX")}


@pytest.mark.parametrize(
    "data, error, message",
    [
        ({}, ValueError, "must name its files in one way.*Received: none of them"),
        ({"npz": "a", "csv": "b"}, ValueError, "Received: .*csv.*npz"),
        ({"npz": "none.npz"}, FileNotFoundError, r"no file matches .*none\.npz"),
        ({"csv": "none.csv"}, FileNotFoundError, r"No such table of pairs: .*none\.csv"),
        ({"inputs": "in/*", "targets": "xx/*"}, FileNotFoundError, r"no file matches .*xx/\*"),
        ({"inputs": "in/0*", "targets": "gt/*"}, ValueError, r"do not pair up"),
        ({"inputs": "in/*"}, ValueError, r"`inputs` with `targets`. Received: \['inputs'\]"),
    ],
)
def test_data_that_are_not_there_are_named(tmp_path, data, error, message):
    data = {"root": str(stacks(tmp_path)), **data}
    with pytest.raises(error, match=message):
        Recipe.parse(recipe(".", data=data)).samples()


# Which part to choose by.


@pytest.mark.parametrize("share, kept", [(0.1, [5]), (0.2, [5]), (0.34, [2, 5]), (0.5, [1, 3, 5])])
def test_from_five_files_on_whole_files_are_kept(share, kept):
    made = Recipe.parse(recipe(".", select=share))
    train, select = made.divided([sample(20 + i) for i in range(6)])
    assert widths(select) == [20 + i for i in kept]
    assert widths(train) == [20 + i for i in range(6) if i not in kept]


def test_below_five_files_the_end_of_x_is_kept_behind_a_gap_of_one_patch():
    made = Recipe.parse(recipe(".", select=0.25))
    ramp = np.broadcast_to(np.arange(100, dtype=np.float32), (4, 4, 100))
    pair = Image(ramp, "ZYX", name="ramp"), Image(-ramp, "ZYX", name="ramp")
    (train,), (select,) = made.divided([Sample(*pair)])
    np.testing.assert_array_equal(train.input.array[0, 0], np.arange(59))
    np.testing.assert_array_equal(select.input.array[0, 0], np.arange(75, 100))
    np.testing.assert_array_equal(select.target.array, -select.input.array)
    # A share below one patch would leave nothing to look at: one patch is the least.
    (train,), (select,) = Recipe.parse(recipe(".", select=0.01)).divided([Sample(*pair)])
    assert widths([train, select]) == [68, 16]


def test_an_image_too_small_to_be_divided_is_named():
    made = Recipe.parse(recipe("."))
    assert widths(made.divided([sample(48)])[0]) == [16]
    with pytest.raises(ValueError, match=r"flat has 47 voxels along X: too few to keep 16"):
        made.divided([sample(47)])


def test_nothing_is_kept_where_the_recipe_says_so():
    train, select = Recipe.parse(recipe(".", select=0)).divided([sample(20)] * 7)
    assert (len(train), len(select)) == (7, 0)


def test_the_report_part_is_neither_trained_on_nor_chosen_by():
    made = Recipe.parse(recipe(".", select=0))
    samples = [sample(20, "train"), sample(21, "report"), sample(22, "select")]
    train, select = made.divided(samples)
    assert (widths(train), widths(select)) == ([20], [22])


def test_frames_of_a_movie_stay_on_one_side():
    movie = flat({"T": 3}, "TZYX", "movie"), flat({"T": 3}, "TZYX", "movie")
    made = Recipe.parse(recipe("."))
    train, select = made.divided([Sample(*movie) for _ in range(5)])
    assert (len(train), len(select)) == (12, 3)
    assert [s.input.name for s in select] == ["movie[T0]", "movie[T1]", "movie[T2]"]
    assert {s.input.axes for s in train + select} == {"ZYX"}
    short = flat({"T": 2}, "TZYX", "short")
    with pytest.raises(ValueError, match="movie has 3 entries along T, short has 2"):
        made.divided([Sample(movie[0], short)] * 5)


def test_a_target_may_be_normalised_by_its_input():
    made = Recipe.parse(recipe(".", normalize={"input": "zscore", "target": "input"}))
    assert made.rules == {"input": "zscore", "target": "none"}
    assert Recipe.parse(recipe(".")).rules == {"input": "percentile", "target": "percentile"}
