"""A recipe: everything a training run depends on, in one YAML file."""

import inspect
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data.augmentation import Intensity
from gvtnets_tf.data.multiscale import check_scales
from gvtnets_tf.data.pairing import SPLITS
from gvtnets_tf.data.patch_sampling import SAMPLING
from gvtnets_tf.images.axes import check_axes
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.losses import CLASSES, LOSSES
from gvtnets_tf.models.presets import MODELS, PRESETS
from gvtnets_tf.models.projection import SurfaceProjection
from gvtnets_tf.training.strict_reading import describe_type, read_dataclass, wrong_type
from gvtnets_tf.zoo.card import DENORMALIZE

PARTS = {"projection": SurfaceProjection, "restoration": GVTNet}  # of a `ProjectionGVTNet`
RULES = ("input", "target")
MOST_SCALE = 64


@dataclass(frozen=True)
class DataRecipe:
    """Files of the training pairs: one of `csv`, `npz`, `wells`, or `inputs` with `targets`.

    Attributes:
        root: str. Folder that the paths are relative to.
        csv: str. Table of pairs.
        npz: str. Training file of CARE or GVTNets, or a glob of them.
        wells: str. Folder of the in-silico-labeling data set.
        inputs, targets: str. Globs or folders.
        conditions, split, labels: choices from `wells`, see `find_wells`.
        axes, target_axes: str. Axes of the files in place of what they say; `target_axes` is
            `axes` by default.
        input_channels, target_channels: tuple of indices (from 0) or names; all by default.
        pair_by: `"name"` or `"order"`.
        regions: mapping from `train`, `validation`, `test` to `{axis: [start, stop]}` in voxels.
        resize: tuple of float. Factors along Z, Y and X by which images are resized (cubic)
            after their statistics were measured.
    """

    root: str = "."
    csv: str | None = None
    npz: str | None = None
    wells: str | None = None
    inputs: str | None = None
    targets: str | None = None
    conditions: tuple[str, ...] | None = None
    split: str | None = None
    labels: tuple[str, ...] | None = None
    axes: str | None = None
    target_axes: str | None = None
    input_channels: tuple[int | str, ...] | None = None
    target_channels: tuple[int | str, ...] | None = None
    pair_by: str = "name"
    regions: Mapping[str, Any] = field(default_factory=dict)
    resize: tuple[float, ...] | None = None

    def __post_init__(self):
        check_choice("data.pair_by", self.pair_by, ("name", "order"))
        for axes in (self.axes, self.target_axes):
            check_axes(axes or "")
        for split, region in self.regions.items():
            check_choice("key of data.regions", split, SPLITS)
            path = f"data.regions.{split}"
            if not isinstance(region, Mapping):
                raise wrong_type(path, region, "a mapping from axes to [start, stop]")
            check_axes("".join(map(str, region)))
            for axis, span in region.items():
                if not _is_span(span):
                    raise wrong_type(f"{path}.{axis}", span, "[start, stop], 0 <= start < stop")


@dataclass(frozen=True)
class NormalizeRecipe:
    """Normalization of inputs and targets, and the units of predictions.

    Attributes:
        input: `Normalizer`.
        target: `Normalizer`, or `None` for the statistics of the input (`target: input` in
            YAML), so that with `denormalize: input` predictions have the units of the target.
        denormalize: `"input"`, `"stored"` or `"none"`, see `Card`.
    """

    input: Normalizer = field(default_factory=Normalizer)
    target: Normalizer | None = field(default_factory=Normalizer)
    denormalize: str = "input"

    def __post_init__(self):
        check_choice("normalize.denormalize", self.denormalize, DENORMALIZE)
        if self.target is None and self.denormalize == "stored":
            raise ValueError(
                "A target normalized by the numbers of its input has none of its own to store: "
                "use `denormalize: input` with `target: input`."
            )


@dataclass(frozen=True)
class OptimizerRecipe:
    """Arguments of Adam; the defaults are those of Keras."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float | None = None

    def __post_init__(self):
        for name in ("beta_1", "beta_2"):
            if not 0 <= getattr(self, name) < 1:
                raise wrong_type(f"optimizer.{name}", getattr(self, name), "from 0 to below 1")
        _check_positive("optimizer.epsilon", self.epsilon)
        check_at_least("optimizer.weight_decay", self.weight_decay or 0, 0)


@dataclass(frozen=True)
class LearningRate:
    """A constant learning rate, or one that decays as a staircase.

    Attributes:
        initial: float.
        decay_rate, decay_steps: float and int. The rate is multiplied by `decay_rate` after
            every `decay_steps` steps; both or none of them.
    """

    initial: float = 4e-4
    decay_rate: float | None = None
    decay_steps: int | None = None

    def __post_init__(self):
        if (self.decay_rate is None) != (self.decay_steps is None):
            raise ValueError(
                "`learning_rate` decays by `decay_rate` every `decay_steps` steps: give both, or a "
                f"number alone. Received: decay_rate={self.decay_rate}, "
                f"decay_steps={self.decay_steps}."
            )
        _check_positive("learning_rate.initial", self.initial)
        if self.decay_steps is not None:
            _check_positive("learning_rate.decay_rate", self.decay_rate)
            check_at_least("learning_rate.decay_steps", self.decay_steps, 1)


@dataclass(frozen=True)
class AugmentRecipe:
    """Random changes of training patches.

    Attributes:
        flip: bool. Each spatial axis, input and target alike.
        rotate: bool. Quarter turns in the Y-X plane, which need square patches.
        intensity: `Intensity` of the inputs, or `None`.
    """

    flip: bool = False
    rotate: bool = False
    intensity: Intensity | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run depends on. Made by `parse` or `load`.

    Attributes:
        preset: str. A published architecture, whose published training numbers replace the
            defaults.
        model: mapping. Arguments of the network that differ from the preset; without a
            preset, all of them and its `class`.
        data: `DataRecipe`.
        normalize: `NormalizeRecipe`.
        patch_size: tuple of int. Voxels along each spatial axis of the network.
        scales: tuple of float. Extents at which the input is cut around the center of a
            patch, see `multiscale.crop_multiscale`.
        batch_size: int. Patches per step.
        steps: int. Rounded up so that all epochs have equally many.
        steps_per_epoch: int. Steps between two evaluations of the validation patches; at most
            one epoch is lost by a kill.
        validation_split: float. Share of the files kept to choose the best weights, where the
            data name none for it.
        validation_patches: int. Number of validation patches at most.
        loss: one of `LOSSES`.
        optimizer: `OptimizerRecipe`.
        learning_rate: `LearningRate`; in YAML also a number.
        augment: `AugmentRecipe`.
        sampling: `"uniform"` or `"foreground"`: places that patches are taken from.
        seed: int. Of the initial weights, the patches and their changes.

    Examples:
        >>> recipe = Recipe.parse({"preset": "denoising", "learning_rate": 1e-3, "steps": 500})
        >>> recipe.loss, recipe.patch_size, recipe.learning_rate.initial
        ('laplace', (16, 64, 64), 0.001)
        >>> Recipe.parse({"preset": "denoising", "step": 500})
        Traceback (most recent call last):
        ...
        ValueError: `key of recipe` cannot be 'step'. Did you mean 'steps'?
    """

    preset: str | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    data: DataRecipe = field(default_factory=DataRecipe)
    normalize: NormalizeRecipe = field(default_factory=NormalizeRecipe)
    patch_size: tuple[int, ...] = (16, 64, 64)
    scales: tuple[float, ...] = (1.0,)
    batch_size: int = 16
    steps: int = 10_000
    steps_per_epoch: int = 500
    validation_split: float = 0.1
    validation_patches: int = 64
    loss: str = "mae"
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    learning_rate: LearningRate = field(default_factory=LearningRate)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    sampling: str = "uniform"
    seed: int = 0

    def __post_init__(self):
        self._check_model()
        check_choice("loss", self.loss, LOSSES)
        check_choice("sampling", self.sampling, SAMPLING)
        for name in ("batch_size", "steps", "steps_per_epoch", "validation_patches"):
            check_at_least(name, getattr(self, name), 1)
        if not 0 <= self.validation_split < 1:
            raise wrong_type("validation_split", self.validation_split, "a share from 0 to below 1")
        if not 0 <= self.seed < 2**32:
            raise wrong_type("seed", self.seed, "a whole number from 0 to 4294967295")
        self._check_windows()
        kind = self.normalize.target.kind if self.normalize.target else "none"
        if self.loss in CLASSES and kind in ("zscore", "unit"):
            raise ValueError(
                f"The classes of {self.loss!r} go from 0 to 1: normalize the target by "
                f"'percentile' or 'fixed'. Received: {kind!r}."
            )

    def _check_model(self):
        name = self.model.get("class")
        if self.preset is None:
            check_choice("model.class", name, list(MODELS))  # a list: `name` may be unhashable
        elif "class" in self.model:
            raise ValueError(
                f"A preset has a class of its own: leave `model.class` out, or the preset. "
                f"Received: preset={self.preset!r}, class={name!r}."
            )
        _check_arguments("model", self.model_class, self.arguments)
        if self._rank not in (2, 3):
            raise wrong_type("model.rank", self._rank, "2 or 3")

    def _check_windows(self):
        if len(self.patch_size) != len(self.axes) or min(self.patch_size) < 1:
            raise ValueError(
                f"`patch_size` must give at least one voxel for each of the axes {self.axes} of "
                f"the network. Received: {list(self.patch_size)}."
            )
        if not all(0 < scale <= MOST_SCALE for scale in self.scales):
            raise wrong_type("scales", list(self.scales), f"above 0 and at most {MOST_SCALE}")
        check_scales(self.scales, self.patch_size, self.axes)

    @classmethod
    def parse(cls, values: Mapping) -> "Recipe":
        """Make a recipe from a mapping of its keys, as YAML holds them.

        The numbers of the preset fill in what is not given, also inside `normalize`,
        `optimizer` and `learning_rate`; a `learning_rate` that is a number is constant.

        Args:
            values: mapping. `learning_rate` may be a number, and `normalize.input` and
                `normalize.target` a kind of `Normalizer` in place of its arguments.

        Returns:
            `Recipe`.

        Raises:
            ValueError: in one line; for an unknown key or a wrong type with the path of the
                key, what came in and what fits.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"A recipe is a mapping. Received: {type(values).__name__}.")
        name = values.get("preset")
        if name is not None and not isinstance(name, str):
            raise wrong_type("preset", name, "text or null")
        published = {} if name is None else PRESETS[check_choice("preset", name, PRESETS)].training
        return read_dataclass(cls, _expand_shorthands(_merge(published, values)))

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a recipe from a YAML file; `data.root` is relative to the file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not YAML, or for what `parse` refuses.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no recipe at {path}.")
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)
        except (yaml.YAMLError, ValueError) as error:  # also text that is no UTF-8, or no date
            raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        recipe = cls.parse(values)
        root = path.parent / os.path.expanduser(recipe.data.root)
        return replace(recipe, data=replace(recipe.data, root=str(root)))

    def changed(self, **changes: Any) -> "Recipe":
        """Copy the recipe with other values, given as to `parse`; mappings are merged by key.

        Examples:
            >>> recipe = Recipe.parse({"preset": "unet"}).changed(steps=2, data={"axes": "ZYX"})
            >>> recipe.steps, recipe.data.axes, recipe.loss
            (2, 'ZYX', 'mae')
        """
        return self.parse(_merge(self.to_dict(), changes))

    def to_dict(self) -> dict:
        """List every value, also the defaults, as YAML holds them."""
        values = _plain(asdict(self))
        values["normalize"]["target"] = values["normalize"]["target"] or "input"
        return values

    def dump(self, folder: str | Path = ".") -> str:
        """Write every value as YAML, with `data.root` relative to the folder it will lie in."""
        values = self.to_dict()
        root = os.path.relpath(os.path.expanduser(self.data.root), folder)
        values["data"]["root"] = Path(root).as_posix()
        return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)

    @property
    def axes(self) -> str:
        """Spatial axes of one input image of the network, `"ZYX"` or `"YX"`."""
        if self.preset and "rank" not in self.model:
            return PRESETS[self.preset].axes
        return "YX" if self._rank == 2 else "ZYX"

    @property
    def _rank(self):
        default = inspect.signature(self.model_class).parameters.get("rank")
        return self.model.get("rank", default.default if default else 3)

    @property
    def epochs(self) -> int:
        """Number of epochs, all of equal length, `steps_per_epoch` at most."""
        return -(-self.steps // self.steps_per_epoch)

    @property
    def model_class(self) -> type:
        """Class of the network."""
        return PRESETS[self.preset].model if self.preset else MODELS[self.model["class"]]

    @property
    def arguments(self) -> dict:
        """Arguments of the network that differ from the preset."""
        return {k: v for k, v in self.model.items() if k != "class"}


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, of which the first would be ignored."""

    def construct_mapping(self, node, deep=False):
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"`{name}` is given twice")
        return super().construct_mapping(node, deep)


def _merge(base, changes):
    """Replace values of a mapping, and those of the mappings that are in it."""
    merged = {
        k: {**base[k], **v} if isinstance(v, Mapping) and isinstance(base.get(k), Mapping) else v
        for k, v in changes.items()
    }
    return {**base, **merged}


def _expand_shorthands(values):
    """Replace a number, a kind or a name by the mapping or list it stands for."""
    values = dict(values)
    rate = values.get("learning_rate", {})
    if not isinstance(rate, Mapping | LearningRate):
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            fits = f"a number, or {describe_type(LearningRate)}"
            raise wrong_type("learning_rate", rate, fits)
        values["learning_rate"] = {"initial": rate}
    normalize, data = values.get("normalize"), values.get("data")
    if isinstance(normalize, Mapping):
        rules = {role: _expand_rule(role, normalize[role]) for role in RULES if role in normalize}
        values["normalize"] = {**normalize, **rules}
    if isinstance(data, Mapping):
        names = {k: data[k] for k in ("conditions", "labels") if isinstance(data.get(k), str)}
        values["data"] = {**data, **{k: (name,) for k, name in names.items()}}
    return values


def _expand_rule(role, value):
    path = f"normalize.{role}"
    if role == "target" and value == "input":
        return None
    if isinstance(value, Normalizer):
        return value
    if not isinstance(value, str | Mapping):
        raise wrong_type(path, value, f"a kind such as percentile, or {describe_type(Normalizer)}")
    value = {"kind": value} if isinstance(value, str) else dict(value)
    for key in ("offset", "gain"):
        if isinstance(value.get(key), int | float):
            value[key] = (value[key],)
    try:
        return read_dataclass(Normalizer, value, path)
    except ValueError as error:  # a message of `Normalizer` does not know the path
        raise error if path in str(error) else ValueError(f"`{path}`: {error}") from None


def _check_arguments(path, cls, values):
    """Raise `ValueError` for arguments that a network does not have, or of another type."""
    known = inspect.signature(cls).parameters.keys() - {"kwargs"}
    for key, value in values.items():
        # `class` is not an argument, but what is meant by `clas`.
        check_choice(f"key of {path}", key, ["class", *known] if path == "model" else known)
        default = inspect.signature(cls).parameters[key].default
        if key in PARTS and value is not None:
            if not isinstance(value, Mapping):
                raise wrong_type(f"{path}.{key}", value, "a mapping")
            _check_arguments(f"{path}.{key}", PARTS[key], value)
        elif isinstance(default, bool | int | float | str) and value is not None:
            several = isinstance(value, list | tuple)
            for item in value if several else [value]:
                if not _is_like(item, default):
                    raise wrong_type(f"{path}.{key}", value, describe_type(type(default)))


def _is_like(value, default):
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, int | float if isinstance(default, float) else type(default))


def _is_span(value):
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in value)
    return whole and 0 <= value[0] < value[1]


def _check_positive(path, value):
    if not value > 0:
        raise wrong_type(path, value, "a number above 0")


def _plain(values):
    """Copy nested values with lists in place of tuples."""
    if isinstance(values, Mapping):
        return {key: _plain(value) for key, value in values.items()}
    return [_plain(value) for value in values] if isinstance(values, list | tuple) else values
