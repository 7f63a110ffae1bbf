"""A recipe says everything a run depends on, and refuses what it does not know."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path

import hypothesis
import pytest
import yaml
from hypothesis import strategies as st
from small import MODEL, recipe

from gvtnets_tf.data.augmentation import Elastic, Intensity
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.models.presets import PRESETS
from gvtnets_tf.training.recipe import (
    AugmentRecipe,
    DataRecipe,
    LearningRate,
    NormalizeRecipe,
    OptimizerRecipe,
    Recipe,
)

EXAMPLES = Path(__file__).parents[2] / "examples"
SHIPPED = Path(__file__).parents[2] / "pretrained" / "simulated_denoiser" / "recipe.yaml"

# Values.


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fills_in_its_published_numbers(name):
    published = PRESETS[name].training
    made = Recipe.parse({"preset": name})
    for key in ("steps", "batch_size", "loss"):
        assert getattr(made, key) == published[key]
    assert made.patch_size == tuple(published["patch_size"])
    assert made.axes == PRESETS[name].axes
    rules = published["normalize"]
    target = None if rules["target"] == "input" else Normalizer.parse(rules["target"])
    assert made.normalize == NormalizeRecipe(
        Normalizer.parse(rules["input"]), target, rules["denormalize"]
    )
    rate = published["learning_rate"]
    expected = LearningRate(**rate) if isinstance(rate, Mapping) else LearningRate(rate)
    assert made.learning_rate == expected
    assert made.optimizer == OptimizerRecipe(**published["optimizer"])


def test_what_is_given_comes_before_the_preset():
    made = Recipe.parse(
        {
            "preset": "denoising",
            "loss": "mae",
            "learning_rate": {"initial": 1},
            "normalize": {"denormalize": "none"},
            "optimizer": {"weight_decay": 0.1},
        }
    )
    assert made.loss == "mae"
    assert made.learning_rate == LearningRate(1.0, 0.7, 10_000)
    assert made.normalize == NormalizeRecipe(Normalizer(), None, "none")
    assert made.optimizer == OptimizerRecipe(epsilon=1e-8, weight_decay=0.1)


def test_restoration_keeps_the_counts_of_its_target_unless_the_published_way_is_asked_for():
    for name in ("denoising", "projection", "unet"):
        ours = Recipe.parse({"preset": name}).normalize
        assert ours == NormalizeRecipe(Normalizer(), None, "input")
        published = Recipe.parse({"preset": name, "normalize": {"target": "percentile"}}).normalize
        assert published == NormalizeRecipe(Normalizer(), Normalizer(), "input")


def test_a_learning_rate_that_is_a_number_is_constant():
    made = Recipe.parse({"preset": "denoising", "learning_rate": 0.01})
    assert made.learning_rate == LearningRate(0.01, None, None)
    assert Recipe.parse(recipe(".")).learning_rate == LearningRate(4e-4)


def test_an_optimizer_is_a_name_or_its_arguments():
    made = Recipe.parse({"preset": "label_free", "optimizer": "adamw"})
    assert made.optimizer == OptimizerRecipe("adamw")
    made = Recipe.parse({"preset": "label_free", "optimizer": {"name": "adamw", "ema": 0.999}})
    assert made.optimizer == OptimizerRecipe("adamw", beta_1=0.5, epsilon=1e-8, ema=0.999)
    assert Recipe.parse(made.to_dict()) == made


@pytest.mark.parametrize(
    "given, patch_size", [({}, (64, 64)), ({"patch_size": [32, 16]}, (32, 16))]
)
def test_a_preset_for_stacks_is_one_for_planes_with_rank_2(given, patch_size):
    made = Recipe.parse({"preset": "unet", "model": {"rank": 2}, **given})
    assert (made.axes, made.patch_size) == ("YX", patch_size)
    assert Recipe.parse(made.to_dict()) == made


def test_another_schedule_keeps_the_initial_rate_of_the_preset_only():
    cosine = {"schedule": "cosine", "warmup_steps": 100}
    for name, initial in (("denoising", 4e-4), ("label_free", 1e-3)):
        made = Recipe.parse({"preset": name, "learning_rate": cosine})
        expected = LearningRate(initial, schedule="cosine", warmup_steps=100)
        assert (made.learning_rate, made.learning_rate.kind) == (expected, "cosine")
        assert Recipe.parse(made.to_dict()) == made
    rate = made.changed(learning_rate={"initial": 0.1}).learning_rate
    assert rate == LearningRate(0.1, schedule="cosine", warmup_steps=100)
    rate = made.changed(learning_rate={"schedule": "constant"}).learning_rate
    assert rate == LearningRate(1e-3, schedule="constant")
    decays = {"schedule": "exponential", "decay_rate": 0.5, "decay_steps": 3}
    assert made.changed(learning_rate=decays).learning_rate == LearningRate(1e-3, **decays)
    same = Recipe.parse({"preset": "denoising", "learning_rate": {"schedule": "exponential"}})
    assert same.learning_rate == LearningRate(4e-4, 0.7, 10_000, "exponential")


@pytest.mark.parametrize(
    "rate, kind",
    [
        (1e-3, "constant"),
        ({"initial": 1e-3}, "constant"),
        ({"decay_rate": 0.5, "decay_steps": 3}, "exponential"),
        ({"schedule": "cosine"}, "cosine"),
    ],
)
def test_the_schedule_need_not_be_named(rate, kind):
    assert Recipe.parse(recipe(".", learning_rate=rate)).learning_rate.kind == kind


def test_a_normalization_is_a_kind_or_its_arguments():
    rules = {"input": {"kind": "fixed", "offset": 100, "gain": [2]}, "target": "input"}
    made = Recipe.parse(recipe(".", normalize=rules)).normalize
    assert made.input == Normalizer("fixed", offset=(100.0,), gain=(2.0,))
    assert (made.target, made.denormalize) == (None, "input")
    assert Recipe.parse(recipe(".")).normalize == NormalizeRecipe()


def test_one_name_stands_for_a_list_of_one():
    data = {"wells": ".", "conditions": "B", "labels": "DAPI_CONFOCAL"}
    made = Recipe.parse(recipe(".") | {"data": data}).data
    assert (made.conditions, made.labels) == (("B",), ("DAPI_CONFOCAL",))


def test_paths_and_numbers_of_python_are_taken_too():
    import numpy as np

    values = recipe(".", steps=np.int64(7), learning_rate={"initial": np.float32(0.5)})
    values["data"]["root"] = Path("somewhere")
    made = Recipe.parse(values)
    assert (made.steps, made.learning_rate.initial) == (7, 0.5)
    assert made.data.root == "somewhere"
    assert yaml.safe_load(made.dump())["steps"] == 7


def test_a_changed_recipe_keeps_the_rest_also_inside_mappings():
    made = Recipe.parse({"preset": "unet", "data": {"inputs": "a", "targets": "b"}})
    other = made.changed(steps=3, data={"axes": "ZYX"}, learning_rate=0.1)
    assert other == replace(
        made,
        steps=3,
        data=DataRecipe(inputs="a", targets="b", axes="ZYX"),
        learning_rate=LearningRate(0.1),
    )
    with pytest.raises(ValueError, match="`steps` must be a whole number"):
        made.changed(steps="3")


# Errors.

UNKNOWN = [
    ({"stepps": 3}, "`key of recipe` cannot be 'stepps'. Did you mean 'steps'?"),
    ({"patch": [8, 8, 8]}, "`key of recipe` cannot be 'patch'."),
    ({3: 3}, "`key of recipe` cannot be 3."),
    ({"data": {"input": "*"}}, "`key of data` cannot be 'input'. Did you mean 'inputs'?"),
    ({"normalize": {"targets": "none"}}, "`key of normalize` cannot be 'targets'. Did you mean"),
    ({"normalize": {"input": {"lo": 1}}}, "`key of normalize.input` cannot be 'lo'. Did you mean"),
    ({"augment": {"flipp": True}}, "`key of augment` cannot be 'flipp'. Did you mean 'flip'?"),
    (
        {"augment": {"intensity": {"gian": 1}}},
        "`key of augment.intensity` cannot be 'gian'. Did you mean 'gain'?",
    ),
    ({"learning_rate": {"initail": 1}}, "`key of learning_rate` cannot be 'initail'. Did you mean"),
    ({"optimizer": {"beta": 1}}, "`key of optimizer` cannot be 'beta'. Did you mean 'beta_"),
    ({"model": {**MODEL, "filter": 2}}, "`key of model` cannot be 'filter'. Did you mean 'filters"),
    ({"model": {**MODEL, "class": "GVTnet"}}, "`model.class` cannot be 'GVTnet'. Did you mean"),
    ({"model": {}}, "`model.class` cannot be None"),
    ({"model": {"class": ["GVTNet"]}}, "`model.class` cannot be ['GVTNet']"),
    (
        {"model": {"class": "ProjectionGVTNet", "restoration": {"filter": 2}}},
        "`key of model.restoration` cannot be 'filter'. Did you mean 'filters'?",
    ),
    ({"preset": "denoise"}, "`preset` cannot be 'denoise'. Did you mean 'denoising'?"),
    ({"loss": "mea"}, "`loss` cannot be 'mea'. Did you mean"),
    ({"monitor": "loss"}, "`monitor` cannot be 'loss'. Did you mean 'val_loss'?"),
    ({"precision": "float61"}, "`precision` cannot be 'float61'. Did you mean 'float"),
    (
        {"precision": "mixed"},
        "`precision` cannot be 'mixed'. Choose one of ['bfloat16', 'float16',",
    ),
    ({"optimizer": "adamW"}, "`optimizer.name` cannot be 'adamW'. Did you mean 'adam"),
    ({"optimizer": {"name": "sgd"}}, "`optimizer.name` cannot be 'sgd'. Choose one of ['adam', "),
    (
        {"learning_rate": {"schedule": "cosin"}},
        "`learning_rate.schedule` cannot be 'cosin'. Did you mean 'cosine'?",
    ),
    ({"sampling": "forground"}, "`sampling` cannot be 'forground'. Did you mean 'foreground'?"),
    ({"normalize": {"denormalize": "inputs"}}, "`normalize.denormalize` cannot be 'inputs'. Did"),
    ({"normalize": {"input": "zscoer"}}, "`normalize.input`: `normalize` cannot be 'zscoer'. Did"),
    ({"data": {"pair_by": "nam"}}, "`data.pair_by` cannot be 'nam'. Did you mean 'name'?"),
    (
        {"data": {"regions": {"trian": {}}}},
        "`key of data.regions` cannot be 'trian'. Did you mean 'train'?",
    ),
]

WRONG_TYPES = [
    ({"steps": "1000"}, "`steps` must be a whole number. Received: '1000'. Leave out the quotes"),
    ({"steps": 1.5}, "`steps` must be a whole number. Received: 1.5."),
    ({"steps": True}, "`steps` must be a whole number. Received: True."),
    ({"data": {"inputs": 3}}, "`data.inputs` must be text or null. Received: 3."),
    (
        {"learning_rate": "1e-4"},
        "`learning_rate` must be a number, or a mapping of initial, decay_rate, decay_steps, "
        "schedule, warmup_steps. Received: '1e-4'. YAML reads this as text: write 1.0e-4.",
    ),
    (
        {"learning_rate": {"initial": "2.5e4"}},
        "`learning_rate.initial` must be a number. Received: '2.5e4'. YAML reads this as text: "
        "write 2.5e+4.",
    ),
    ({"learning_rate": [1e-4]}, "`learning_rate` must be a number, or a mapping of initial, dec"),
    ({"learning_rate": {"initial": float("nan")}}, "`learning_rate.initial` must be a number. R"),
    ({"augment": {"flip": "no"}}, "`augment.flip` must be true or false. Received: 'no'."),
    ({"augment": {"flip": 1}}, "`augment.flip` must be true or false. Received: 1."),
    ({"augment": {"intensity": {"gain": "x"}}}, "`augment.intensity.gain` must be a number. Rec"),
    (
        {"augment": True},
        "`augment` must be a mapping of flip, rotate, elastic, intensity. Received: True.",
    ),
    ({"patch_size": 16}, "`patch_size` must be a list of whole numbers. Received: 16."),
    ({"patch_size": ["a", 8, 8]}, "must be a list of whole numbers. Received: ['a', 8, 8]."),
    ({"scales": "1, 2"}, "`scales` must be a list of numbers. Received: '1, 2'."),
    ({"data": {"axes": {}}}, "`data.axes` must be text or null. Received: {}."),
    (
        {"data": {"input_channels": 0}},
        "`data.input_channels` must be a list of whole numbers or texts or null. Received: 0.",
    ),
    ({"data": {"regions": []}}, "`data.regions` must be a mapping. Received: []."),
    ({"data": {"regions": {"train": 3}}}, "`data.regions.train` must be a mapping from axes to"),
    (
        {"data": {"regions": {"train": {"X": [0]}}}},
        "`data.regions.train.X` must be [start, stop], 0 <= start < stop. Received: [0].",
    ),
    ({"data": "pairs.csv"}, "`data` must be a mapping of root, csv, "),
    ({"normalize": {"input": 3}}, "`normalize.input` must be a kind such as percentile, or a map"),
    ({"normalize": {"target": None}}, "`normalize.target` must be a kind such as percentile, or"),
    ({"normalize": {"input": {"low": "1"}}}, "`normalize.input.low` must be a number. Received: "),
    ({"model": [1]}, "`model` must be a mapping. Received: [1]."),
    ({"model": {**MODEL, "depth": 3000}}, "`model` asks for 3001 levels and blocks of layers: at"),
    ({"model": {**MODEL, "chunk": "8"}}, "`model.chunk` must be a whole number or null. Received"),
    ({"steps": int("9" * 4000)}, "`steps` must be a whole number. Received: 999"),
    ({"model": {**MODEL, "filters": "8"}}, "`model.filters` must be a whole number. Received: '8'"),
    ({"model": {**MODEL, "gate": 1}}, "`model.gate` must be true or false. Received"),
    ({"model": {**MODEL, "up": 3}}, "`model.up` must be text or a list of texts. Received: 3."),
    ({"model": {"class": "ProjectionGVTNet", "projection": 3}}, "`model.projection` must be a map"),
    ({"preset": ["denoising"]}, "`preset` must be text or null. Received: ['denoising']."),
    ({"loss": None}, "`loss` must be text. Received: None."),
    ({"monitor": None}, "`monitor` must be text. Received: None."),
    ({"patience": 2.5}, "`patience` must be a whole number or null. Received: 2.5."),
    ({"patience": "3"}, "`patience` must be a whole number or null. Received: '3'. Leave out the"),
    ({"precision": 16}, "`precision` must be text. Received: 16."),
    ({"precise_batch_norm": True}, "`precise_batch_norm` must be a whole number. Received: True."),
    ({"optimizer": 3}, "`optimizer` must be text, or a mapping of name, beta_1, beta_2, epsilon, "),
    (
        {"optimizer": {"ema": "0.999"}},
        "`optimizer.ema` must be a number or null. Received: '0.999'",
    ),
    ({"optimizer": {"clipnorm": True}}, "`optimizer.clipnorm` must be a number or null. Received:"),
    (
        {"learning_rate": {"warmup_steps": 0.5}},
        "`learning_rate.warmup_steps` must be a whole number. Received: 0.5.",
    ),
    ({"learning_rate": {"schedule": 1}}, "`learning_rate.schedule` must be text or null. Received"),
]

IMPOSSIBLE = [
    (
        {"preset": "denoising"},
        "A preset has a class of its own: leave `model.class` out, or the preset. Received: "
        "preset='denoising', class='GVTNet'.",
    ),
    ({"normalize": {"input": {"low": 99, "high": 1}}}, "`normalize.input`: Percentiles must sat"),
    ({"steps": 0}, "`steps` must be at least 1. Received: steps=0"),
    ({"batch_size": 0}, "`batch_size` must be at least 1"),
    ({"steps_per_epoch": 0}, "`steps_per_epoch` must be at least 1"),
    ({"validation_patches": 0}, "`validation_patches` must be at least 1"),
    ({"validation_split": 1}, "`validation_split` must be a share from 0 to below 1. Received: 1."),
    ({"seed": -1}, "`seed` must be a whole number from 0 to 4294967295. Received: -1."),
    ({"model": {**MODEL, "rank": 4}}, "`model.rank` must be 2 or 3. Received: 4."),
    (
        {"patch_size": [16, 16]},
        "`patch_size` must give at least one voxel for each of the axes ZYX of the network. "
        "Received: [16, 16].",
    ),
    ({"patch_size": [0, 8, 8]}, "`patch_size` must give at least one voxel for each of the axes"),
    ({"scales": []}, "`scales` must be above 0 and at most 64. Received: []."),
    ({"patch_size": [0] * 10_000}, "of the network. Received: [0, 0, 0, 0, 0"),
    ({"scales": [1, 100]}, "`scales` must be above 0 and at most 64. Received: [1.0, 100.0]."),
    ({"scales": [1, 2]}, "Several scales are of YX windows"),
    ({"learning_rate": 0}, "`learning_rate.initial` must be a number above 0. Received: 0.0."),
    (
        {"learning_rate": {"decay_rate": 0.5}},
        "`learning_rate` decays by `decay_rate` every `decay_steps` steps: give both, or a number "
        "alone. Received: decay_rate=0.5, decay_steps=None.",
    ),
    ({"learning_rate": {"decay_rate": 0.5, "decay_steps": 0}}, "must be at least 1"),
    ({"learning_rate": {"decay_rate": 0, "decay_steps": 5}}, "`learning_rate.decay_rate` must be"),
    ({"optimizer": {"beta_1": 1}}, "`optimizer.beta_1` must be from 0 to below 1. Received: 1.0."),
    ({"optimizer": {"epsilon": 0}}, "`optimizer.epsilon` must be a number above 0. Received: 0.0."),
    ({"optimizer": {"weight_decay": -1}}, "`optimizer.weight_decay` must be at least 0"),
    ({"optimizer": {"ema": 1}}, "`optimizer.ema` must be from 0 to below 1. Received: 1.0."),
    (
        {"optimizer": {"clipnorm": 0}},
        "`optimizer.clipnorm` must be a number above 0 or null. Received: 0.0.",
    ),
    ({"patience": 0}, "`patience` must be at least 1. Received: patience=0."),
    ({"precise_batch_norm": -1}, "`precise_batch_norm` must be at least 0. Received: precise_batc"),
    (
        {"learning_rate": {"schedule": "cosine", "decay_rate": 0.5, "decay_steps": 2}},
        "`learning_rate` has `decay_rate` and `decay_steps` with `schedule: exponential` only, and "
        "`warmup_steps` with `schedule: cosine`. Received: schedule=cosine, decay_rate=0.5, "
        "warmup_steps=0.",
    ),
    (
        {"learning_rate": {"warmup_steps": 1}},
        "Received: schedule=constant, decay_rate=None, warmup",
    ),
    (
        {"learning_rate": {"schedule": "exponential"}},
        "Received: schedule=exponential, decay_rate=N",
    ),
    (
        {"learning_rate": {"schedule": "constant", "decay_rate": 0.5, "decay_steps": 2}},
        "Received: schedule=constant, decay_rate=0.5, warmup_steps=0.",
    ),
    (
        {"learning_rate": {"schedule": "cosine", "warmup_steps": -1}},
        "`learning_rate.warmup_steps` must be at least 0.",
    ),
    (
        {"learning_rate": {"schedule": "cosine", "warmup_steps": 6}},
        "`learning_rate.warmup_steps` must be below `steps`, 6. Received: 6.",
    ),
    ({"augment": {"intensity": {"gain": 2}}}, "`augment.intensity.gain` must be below 1"),
    (
        {"augment": {"intensity": {"noise": [0.5, 0.1]}}},
        "`augment.intensity.noise` must be a number, or [low, high] with 0 <= low <= high. Rec",
    ),
    ({"augment": {"intensity": {"blur": -1}}}, "`augment.intensity.blur` must be at least 0"),
    (
        {"augment": {"elastic": {"alpha": 3, "sigma": 0}}},
        "`augment.elastic.sigma` must be above 0 and at most 100 voxels. Received: 0.0.",
    ),
    (
        {"augment": {"elastic": {"alpha": -1, "sigma": 2}}},
        "`augment.elastic.alpha` must be from 0 to at most 100 voxels. Received: -1.0.",
    ),
    ({"augment": {"elastic": {"alpha": 1, "sigma": 1e9}}}, "above 0 and at most 100 voxels. Rec"),
    (
        {"augment": {"intensity": {"blur": 1e9}}},
        "`augment.intensity.blur` must be at most 100 voxels. Received: 1000000000.0.",
    ),
    ({"data": {"axes": "ZYXW"}}, "`axes` must be distinct letters"),
    ({"data": {"regions": {"train": {"W": [0, 3]}}}}, "`axes` must be distinct letters"),
    ({"data": {"regions": {"train": {"X": [5, 5]}}}}, "`data.regions.train.X` must be [start, st"),
]


@pytest.mark.parametrize("changes, message", [*UNKNOWN, *WRONG_TYPES, *IMPOSSIBLE])
def test_an_error_names_the_key_what_came_in_and_what_fits(changes, message):
    with pytest.raises(ValueError) as error:
        Recipe.parse({**recipe("."), **changes})
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("values, name", [(["denoising"], "list"), (None, "NoneType")])
def test_a_recipe_must_be_a_mapping(values, name):
    with pytest.raises(ValueError, match=rf"A recipe is a mapping\. Received: {name}"):
        Recipe.parse(values)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=4)
    | st.dates()
    | st.datetimes()
    | st.binary(max_size=4)
    | st.sampled_from(["1e-4", "10", "input", "zscore", "fixed", "ZYX", "GVTNet", 0.5, 1, 2, 64])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(SCALARS, inner, max_size=3)
        | st.sets(st.integers(), max_size=2)
    ),
    max_leaves=4,
)
CLASSES = {
    "data": DataRecipe,
    "normalize": NormalizeRecipe,
    "optimizer": OptimizerRecipe,
    "learning_rate": LearningRate,
    "augment": AugmentRecipe,
    "normalize.input": Normalizer,
    "normalize.target": Normalizer,
    "augment.elastic": Elastic,
    "augment.intensity": Intensity,
}
PATHS = [
    *([f.name] for f in fields(Recipe)),
    *([*path.split("."), f.name] for path, cls in CLASSES.items() for f in fields(cls)),
    *(["model", name] for name in ("class", "rank", "filters", "bottom", "chunk", "restoration")),
    *(["data", "regions", *path] for path in (["train"], ["test", "X"])),
    ["another"],
]


@hypothesis.given(st.lists(st.tuples(st.sampled_from(PATHS), VALUES), min_size=1, max_size=3))
@hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
def test_any_value_at_any_key_makes_a_recipe_or_an_error_of_one_line(changes):
    values = recipe(".")
    for path, value in changes:
        place = values
        for key in path[:-1]:
            place[key] = dict(place[key]) if isinstance(place.get(key), dict) else {}
            place = place[key]
        place[path[-1]] = value
    try:
        made = Recipe.parse(values)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    again = Recipe.parse(yaml.safe_load(made.dump()))
    assert again.to_dict().keys() == made.to_dict().keys()
    assert replace(again, data=made.data, model={}, preset="unet") == replace(
        made, model={}, preset="unet"
    )


# Files.


@pytest.mark.parametrize("path", [*sorted(EXAMPLES.rglob("*.yaml")), SHIPPED], ids=lambda p: p.name)
def test_the_recipes_of_the_repository_can_be_read(path):
    made = Recipe.load(path)
    given = yaml.safe_load(path.read_text())
    assert made.patch_size == tuple(given["patch_size"])
    assert made.steps_per_epoch == given["steps_per_epoch"]


def test_the_shipped_recipe_is_that_of_its_example():
    shipped, example = Recipe.load(SHIPPED), Recipe.load(EXAMPLES / "simulated" / "denoiser.yaml")
    assert replace(shipped, data=example.data) == example
    assert replace(shipped.data, root=example.data.root) == example.data


def test_a_file_says_what_is_wrong_with_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no recipe at .*none\.yaml"):
        Recipe.load(tmp_path / "none.yaml")
    for text, message in (
        ("preset: [denoising", r"r\.yaml is not YAML"),
        ("preset: [\ndenoising: :", r"r\.yaml is not YAML"),
        ("data: {axes: ZYX}\nsteps: 3\ndata: {}", r"r\.yaml is not YAML: `data` is given twice"),
        ("data: {axes: ZYX, axes: YX}", r"r\.yaml is not YAML: `axes` is given twice"),
        ("seed: 2026-13-45", r"r\.yaml is not YAML: month must be in 1"),
        ("!!python/object/apply:os.system [ls]", r"r\.yaml is not YAML"),
        ("", "A recipe is a mapping. Received: NoneType"),
        (
            "preset: &a denoising\nloss: *a",
            r"not YAML: `\*a` stands for a value elsewhere: write th",
        ),
        ("[" * 200_000, "is not YAML: it nests mappings and lists more than 32 deep"),
        ("a: " + "{a: " * 40, "is not YAML: it nests mappings and lists more than 32 deep"),
        ("a: !!bool x", "is not YAML: 'x'"),
        ("a: !!int ''", "is not YAML: string index out of range"),
        ("a: !!timestamp x", "is not YAML: 'NoneType' object"),
        ("#" * 262145, r"r\.yaml is larger than 262144 bytes, .* Received: 262145 bytes\."),
    ):
        (tmp_path / "r.yaml").write_text(text)
        with pytest.raises(ValueError, match=message) as error:
            Recipe.load(tmp_path / "r.yaml")
        assert "\n" not in str(error.value)
    (tmp_path / "r.yaml").write_bytes(b"preset: \xff")
    with pytest.raises(ValueError, match=r"r\.yaml is not YAML: 'utf-8' codec can't decode"):
        Recipe.load(tmp_path / "r.yaml")


def test_numbers_that_yaml_takes_for_text_are_explained(tmp_path):
    (tmp_path / "r.yaml").write_text("preset: unet\nlearning_rate: 1e-4")
    with pytest.raises(ValueError, match=r"Received: '1e-4'\. .* write 1\.0e-4\."):
        Recipe.load(tmp_path / "r.yaml")
    (tmp_path / "r.yaml").write_text("preset: unet\nlearning_rate: 1.0e-4")
    assert Recipe.load(tmp_path / "r.yaml").learning_rate.initial == 1e-4


@pytest.mark.parametrize("root", [None, ".", "../data", "/somewhere", "~/data"])
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
    expected = (tmp_path / Path(root or ".").expanduser()).resolve()
    assert (tmp_path / again.data.root).resolve() == expected
    assert replace(again, data=first.data) == first
    assert yaml.safe_load(first.dump())["steps"] == 6


def names(values):
    """All keys of nested mappings, with points between them."""
    for key, value in values.items():
        yield key
        if isinstance(value, dict):
            yield from (f"{key}.{name}" for name in names(value))


def test_every_value_is_dumped_also_the_defaults():
    kept = yaml.safe_load(Recipe.parse(recipe(".")).dump())
    assert kept["learning_rate"] == {
        "initial": 4e-4, "decay_rate": None, "decay_steps": None, "schedule": None,
        "warmup_steps": 0,
    }  # fmt: skip
    assert kept["optimizer"] == {
        "name": "adam", "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "weight_decay": None,
        "clipnorm": None, "ema": None,
    }  # fmt: skip
    assert (kept["monitor"], kept["patience"]) == ("val_loss", None)
    assert (kept["precise_batch_norm"], kept["precision"]) == (0, "float32")
    assert kept["normalize"]["input"] == {
        "kind": "percentile", "low": 2.0, "high": 99.8, "offset": [], "gain": [], "scope": "image",
    }  # fmt: skip
    assert kept["normalize"]["denormalize"] == "input"
    augment = {"intensity": {}, "elastic": {"alpha": 2, "sigma": 4}}
    made = Recipe.parse(recipe(".", augment=augment))
    expected = {f.name for f in fields(Recipe)}
    for path, cls in CLASSES.items():
        expected |= {f"{path}.{f.name}" for f in fields(cls)}
    assert expected <= set(names(yaml.safe_load(made.dump())))


def test_nothing_of_a_recipe_can_be_changed_in_place():
    made = Recipe.parse(recipe("."))
    for part in (made, *(v for f in fields(made) if is_dataclass(v := getattr(made, f.name)))):
        name = fields(part)[0].name
        with pytest.raises(AttributeError, match="cannot assign"):
            setattr(part, name, None)
    assert asdict(made)["steps"] == 6


# The network.


def test_the_rank_decides_the_axes():
    assert Recipe.parse(recipe(".")).axes == "ZYX"
    two = {"rank": 2}
    assert Recipe.parse(recipe(".", model={**MODEL, **two}, patch_size=[8, 8])).axes == "YX"
    changes = {"preset": "denoising", "model": two, "patch_size": [64, 64]}
    assert Recipe.parse(changes).axes == "YX"
    # A class whose own default is two.
    model = {"class": "GlobalPixelTransformerNet"}
    assert Recipe.parse(recipe(".", model=model, patch_size=[8, 8])).axes == "YX"


# Virtual staining.


def staining(**changes):
    return Recipe.parse({"preset": "gpt_virtual_staining", "patch_size": [8, 8], **changes})


def test_virtual_staining_reads_three_scales():
    made = staining()
    assert (made.scales, made.axes, made.loss) == ((1, 2, 0.5), "YX", "masked_crossentropy")


def test_brightness_is_changed_as_the_recipe_says():
    assert staining().augment.intensity is None
    light = {"gain": 0.2, "drop": 0.1, "noise": [0, 0.5], "blur": 1}
    made = staining(augment={"intensity": light})
    assert made.augment.intensity == Intensity(gain=0.2, drop=0.1, noise=(0, 0.5), blur=1)
    # The recipe in the model folder, and that of a run that goes on, are equal to it.
    assert Recipe.parse(yaml.safe_load(made.dump())).augment == made.augment


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"scales": [2, 0.5]}, "`scales` must hold 1"),
        ({"patch_size": [8, 10]}, "10 pixels along X cannot be cut at scale 0.5"),
        ({"data": {"lables": ["DAPI"]}}, "Did you mean 'labels'"),
        ({"loss": "masked_cross_entropy"}, "Did you mean 'masked_crossentropy'"),
        ({"normalize": {"target": "zscore"}}, "from 0 to 1: normalize the target by 'percentile'"),
    ],
)
def test_a_staining_recipe_that_cannot_work_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        staining(**changes)
