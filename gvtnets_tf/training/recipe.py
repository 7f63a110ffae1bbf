"""A recipe: everything a training run depends on, in one YAML file."""

import inspect
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from gvtnets_tf.checks import (
    DEEPEST,
    check_at_least,
    check_choice,
    check_file_size,
    check_fits,
    cut,
    describe_type,
    quote,
    read_dataclass,
    read_value,
)
from gvtnets_tf.data.augmentation import Elastic, Intensity
from gvtnets_tf.data.multiscale import check_scales
from gvtnets_tf.data.pairing import SPLITS
from gvtnets_tf.data.patch_sampling import SAMPLING
from gvtnets_tf.images.axes import check_axes
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.models.argument_checks import check_arguments
from gvtnets_tf.models.losses import CLASSES, LOSSES
from gvtnets_tf.models.presets import MODELS, PRESETS
from gvtnets_tf.zoo.card import DENORMALIZE
from gvtnets_tf.zoo.model_folder import POLICIES

MOST_SCALE = 64
OPTIMIZERS, SCHEDULES = ("adam", "adamw"), ("constant", "exponential", "cosine")
MONITORS = ("val_loss", "val_r")
PRECISIONS = {**POLICIES, "float16": "mixed_float16"}
LARGEST = 2**18  # bytes of a recipe; a real one has a thousand
CHOICES = {
    "loss": LOSSES, "sampling": SAMPLING, "monitor": MONITORS, "precision": PRECISIONS,
}  # fmt: skip


@dataclass(frozen=True)
class DataRecipe:
    """Files of the training pairs: one of `csv`, `npz`, `wells`, or `inputs` with `targets`.

    Attributes:
        root: str. Folder that the paths are relative to.
        csv, npz, wells, inputs, targets: str. A table of pairs; a training file of CARE or
            GVTNets; a folder of the in-silico-labeling data set; globs or folders.
        conditions, split, labels: choices from `wells`, see `find_wells`.
        axes, target_axes: str. Axes of the files in place of what they say.
        input_channels, target_channels: tuple of indices (from 0) or names.
        regions: mapping from split to `{axis: [start, stop]}` in voxels.
        resize: tuple of float. Factors along Z, Y and X, see `TrainingPair`.
    """

    root: str = "."
    csv: str | None = None
    npz: str | None = None
    wells: str | None = None
    inputs: str | None = None
    targets: str | None = None
    conditions: tuple[str, ...] | str | None = None
    split: str | None = None
    labels: tuple[str, ...] | str | None = None
    axes: str | None = None
    target_axes: str | None = None
    input_channels: tuple[int | str, ...] | None = None
    target_channels: tuple[int | str, ...] | None = None
    pair_by: str = "name"
    regions: Mapping[str, Any] = field(default_factory=dict)
    resize: tuple[float, ...] | None = None

    def __post_init__(self):
        for name in ("conditions", "labels"):
            if isinstance(value := getattr(self, name), str):
                object.__setattr__(self, name, (value,))
        check_choice("data.pair_by", self.pair_by, ("name", "order"))
        for axes in (self.axes, self.target_axes):
            check_axes(axes or "")
        for split, region in self.regions.items():
            check_choice("key of data.regions", split, SPLITS)
            path, span_fits = f"data.regions.{split}", "[start, stop], 0 <= start < stop"
            mapped = isinstance(region, Mapping)
            check_fits(mapped, path, region, "a mapping from axes to [start, stop]")
            check_axes("".join(map(str, region)))
            for axis, span in region.items():
                check_fits(_is_span(span), f"{path}.{axis}", span, span_fits)


@dataclass(frozen=True)
class NormalizeRecipe:
    """Normalization of inputs and targets, and the units of predictions.

    Attributes:
        input, target: `Normalizer`. A target of `None` takes the statistics of the input (`input`
            in YAML), so that with `denormalize: input` predictions have the units of the target.
        denormalize: `"input"`, `"stored"` or `"none"`, see `Card`: of predictions only, which may
            choose another.
    """

    input: Normalizer = field(default_factory=Normalizer)
    target: Normalizer | None = field(default_factory=Normalizer)
    denormalize: str = "input"

    def __post_init__(self):
        check_choice("normalize.denormalize", self.denormalize, DENORMALIZE)


@dataclass(frozen=True)
class OptimizerRecipe:
    """Adam with its arguments; the defaults are those of Keras.

    Attributes:
        name: `"adam"` or `"adamw"`, which decays weights by 0.004 where `weight_decay` is `None`.
        clipnorm: float. The norm of all gradients together is at most this (Keras'
            `global_clipnorm`).
        ema: float. Momentum of the moving average of the weights that are validated and saved.
    """

    name: str = "adam"
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    weight_decay: float | None = None
    clipnorm: float | None = None
    ema: float | None = None

    def __post_init__(self):
        check_choice("optimizer.name", self.name, OPTIMIZERS)
        for name in ("beta_1", "beta_2", "ema"):
            momentum = getattr(self, name)
            fits = momentum is None or 0 <= momentum < 1
            check_fits(fits, f"optimizer.{name}", momentum, "from 0 to below 1")
        check_fits(self.epsilon > 0, "optimizer.epsilon", self.epsilon, "a number above 0")
        check_at_least("optimizer.weight_decay", self.weight_decay or 0, 0)
        norm = self.clipnorm
        check_fits(norm is None or norm > 0, "optimizer.clipnorm", norm, "a number above 0 or null")


@dataclass(frozen=True)
class LearningRate:
    """A constant learning rate `initial`, or one that decays from it.

    Attributes:
        decay_rate, decay_steps: float and int. The rate is multiplied by `decay_rate` after
            every `decay_steps` steps, as a staircase; both or none of them.
        schedule: `"constant"`, `"exponential"` (by `decay_rate`) or `"cosine"`, to 0 at the last
            step; `None` is one of the first two, as there is a decay.
        warmup_steps: int. With `"cosine"`, the rate first rises from 0 to `initial`.
    """

    initial: float = 4e-4
    decay_rate: float | None = None
    decay_steps: int | None = None
    schedule: str | None = None
    warmup_steps: int = 0

    def __post_init__(self):
        if (self.decay_rate is None) != (self.decay_steps is None):
            raise ValueError(
                "`learning_rate` decays by `decay_rate` every `decay_steps` steps: give both, or a "
                f"number alone. Received: decay_rate={self.decay_rate}, "
                f"decay_steps={self.decay_steps}."
            )
        if self.schedule is not None:
            check_choice("learning_rate.schedule", self.schedule, SCHEDULES)
        check_at_least("learning_rate.warmup_steps", self.warmup_steps, 0)
        decays = self.decay_steps is not None
        if decays != (self.kind == "exponential") or (self.warmup_steps and self.kind != "cosine"):
            raise ValueError(
                "`learning_rate` has `decay_rate` and `decay_steps` with `schedule: exponential` "
                "only, and `warmup_steps` with `schedule: cosine`. Received: schedule="
                f"{self.kind}, decay_rate={self.decay_rate}, warmup_steps={self.warmup_steps}."
            )
        check_fits(self.initial > 0, "learning_rate.initial", self.initial, "a number above 0")
        if decays:
            rate = self.decay_rate
            check_fits(rate > 0, "learning_rate.decay_rate", rate, "a number above 0")
            check_at_least("learning_rate.decay_steps", self.decay_steps, 1)

    @property
    def kind(self) -> str:
        """The schedule, also where it is not named."""
        return _name_schedule(self.schedule, self.decay_steps)


@dataclass(frozen=True)
class AugmentRecipe:
    """Random changes of training patches.

    Attributes:
        flip: bool. Each spatial axis, input and target alike.
        rotate: bool. Quarter turns in the Y-X plane, which need square patches.
        elastic: `Elastic` displacement of input and target alike, or `None`.
        intensity: `Intensity` of the inputs, or `None`.
    """

    flip: bool = False
    rotate: bool = False
    elastic: Elastic | None = None
    intensity: Intensity | None = None


@dataclass(frozen=True)
class Recipe:
    """Everything that a training run depends on; `docs/recipe.md` explains every key.

    Attributes:
        preset: str. Its published training numbers replace the defaults.
        model: mapping. Arguments of the network that differ from the preset; without one, all
            of them and its `class`.
        patch_size: tuple of int. Voxels along each of `axes`.
        scales: tuple of float. Extents of the input around a patch, see `crop_multiscale`.
        steps, steps_per_epoch: int. Of training, rounded up to whole epochs; between two
            evaluations of the validation patches.
        validation_split: float. Share of the files kept to choose the best weights, where the
            data name none for it.
        monitor: `"val_loss"`, or `"val_r"`, of which more is better: chooses the best weights.
        patience: int. Stop after so many epochs in which the monitored number was not better.
        optimizer: `OptimizerRecipe`, or the name of one.
        learning_rate: `LearningRate`, or a float for a constant one.
        precise_batch_norm: int. Batches over which the statistics of batch normalization are
            measured again before each evaluation; 0 keeps the moving averages.
        precision: `"float32"`, `"bfloat16"` or `"float16"`, that layers compute in.
        sampling: `"uniform"` or `"foreground"`: places that patches are taken from.
        seed: int. Of the initial weights, the patches and their changes.

    Examples:
        >>> recipe = Recipe.parse({"preset": "denoising", "learning_rate": 1e-3, "steps": 500})
        >>> recipe.loss, recipe.patch_size, recipe.learning_rate.initial
        ('laplace', (16, 64, 64), 0.001)
        >>> recipe.changed(steps=2, data={"axes": "ZYX"}).data.axes
        'ZYX'
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
    monitor: str = "val_loss"
    patience: int | None = None
    loss: str = "mae"
    optimizer: str | OptimizerRecipe = field(default_factory=OptimizerRecipe)
    learning_rate: float | LearningRate = field(default_factory=LearningRate)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    sampling: str = "uniform"
    precise_batch_norm: int = 0
    precision: str = "float32"
    seed: int = 0

    def __post_init__(self):
        if isinstance(self.learning_rate, int | float):
            object.__setattr__(self, "learning_rate", LearningRate(self.learning_rate))
        if isinstance(self.optimizer, str):
            object.__setattr__(self, "optimizer", OptimizerRecipe(self.optimizer))
        self._check_model()
        self._check_numbers()
        for name, known in CHOICES.items():
            check_choice(name, getattr(self, name), known)
        if len(self.patch_size) != len(self.axes) or min(self.patch_size) < 1:
            raise ValueError(
                f"`patch_size` must give at least one voxel for each of the axes {self.axes} of "
                f"the network. Received: {quote(list(self.patch_size))}."
            )
        fit = bool(self.scales) and all(0 < scale <= MOST_SCALE for scale in self.scales)
        check_fits(fit, "scales", list(self.scales), f"above 0 and at most {MOST_SCALE}")
        check_scales(self.scales, self.patch_size, self.axes)
        kind = self.normalize.target.kind if self.normalize.target else "none"
        if self.loss in CLASSES and kind in ("zscore", "unit"):
            raise ValueError(
                f"The classes of {self.loss!r} go from 0 to 1: normalize the target by "
                f"'percentile' or 'fixed'. Received: {kind!r}."
            )

    def _check_numbers(self):
        for name in ("batch_size", "steps", "steps_per_epoch", "validation_patches", "patience"):
            if (value := getattr(self, name)) is not None:
                check_at_least(name, value, 1)
        check_at_least("precise_batch_norm", self.precise_batch_norm, 0)
        share, seed, warmup = self.validation_split, self.seed, self.learning_rate.warmup_steps
        check_fits(0 <= share < 1, "validation_split", share, "a share from 0 to below 1")
        check_fits(0 <= seed < 2**32, "seed", seed, "a whole number from 0 to 4294967295")
        fits = f"below `steps`, {self.steps}"
        check_fits(warmup < self.steps, "learning_rate.warmup_steps", warmup, fits)

    def _check_model(self):
        name = self.model.get("class")
        if self.preset is None:
            check_choice("model.class", name, list(MODELS))  # a list: `name` may be unhashable
        elif "class" in self.model:
            raise ValueError(
                f"A preset has a class of its own: leave `model.class` out, or the preset. "
                f"Received: preset={self.preset!r}, class={quote(name)}."
            )
        check_arguments("model", self.model_class, self.arguments)
        check_fits(self._rank in (2, 3), "model.rank", self._rank, "2 or 3")

    @classmethod
    def parse(cls, values: "Mapping | Recipe") -> "Recipe":
        """Make a recipe from a mapping of its keys, as YAML holds them; a recipe is returned.

        The numbers of the preset fill in what is not given (of a preset for stacks with `rank: 2`,
        patches are its Y and X), also inside `normalize`, `optimizer` and `learning_rate`; another
        `schedule` keeps its `initial` only. A `learning_rate` may be a number, `optimizer` a name,
        and `normalize.input` and `normalize.target` a kind of `Normalizer`.

        Raises:
            ValueError: in one line, with the path of the key, what came in and what fits.
        """
        if isinstance(values, cls):
            return values
        if not isinstance(values, Mapping):
            raise ValueError(f"A recipe is a mapping. Received: {type(values).__name__}.")
        name = read_value(str | None, values.get("preset"), "preset")
        published = {} if name is None else PRESETS[check_choice("preset", name, PRESETS)].training
        model = values.get("model")
        if published and isinstance(model, Mapping) and model.get("rank") == 2:
            published = {**published, "patch_size": published["patch_size"][-2:]}
        values = _merge(published, values)
        if isinstance(rules := values.get("normalize"), Mapping):
            roles = [role for role in ("input", "target") if role in rules]
            values["normalize"] = {**rules, **{r: _expand_rule(r, rules[r]) for r in roles}}
        return read_dataclass(cls, values)

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """Read a recipe from a YAML file, to which `data.root` is relative.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not YAML, or for what `parse` refuses.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no recipe at {path}.")
        check_file_size(path, LARGEST)
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), _StrictLoader)
        except Exception as error:  # also text that is no UTF-8, no date, or nests too deep
            raise ValueError(f"{path} is not YAML: {cut(error)}") from error
        recipe = cls.parse(values)
        root = path.parent / os.path.expanduser(recipe.data.root)
        return replace(recipe, data=replace(recipe.data, root=str(root)))

    def changed(self, **changes: Any) -> "Recipe":
        """Copy the recipe with other values, given as to `parse`; mappings are merged by key."""
        return self.parse(_merge(self.to_dict(), changes))

    def to_dict(self) -> dict:
        """List every value, also the defaults, as `parse` takes them."""
        values = asdict(self)
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
        return "YX" if self._rank == 2 else "ZYX"

    @property
    def _rank(self):
        published = PRESETS[self.preset].config if self.preset else {}
        default = inspect.signature(self.model_class).parameters.get("rank")
        return {**published, **self.model}.get("rank", default.default if default else 3)

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


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without aliases, and without a key given twice, of which one would be ignored."""

    depth = 0

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):  # a few lines of them stand for billions of values
            raise yaml.YAMLError(
                f"`*{self.peek_event().anchor}` stands for a value elsewhere: write the value"
            )
        if self.depth > DEEPEST:
            raise yaml.YAMLError(f"it nests mappings and lists more than {DEEPEST} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node, deep=False):
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [name for name, count in names.items() if count > 1]:
            raise yaml.YAMLError(f"`{cut(twice[0])}` is given twice")
        return super().construct_mapping(node, deep)


def _merge(base, changes):
    """Replace values of a mapping, and those of the mappings that are in it."""
    if isinstance(rate := changes.get("learning_rate"), Mapping):
        base = {**base, "learning_rate": _choose_rate(base.get("learning_rate"), rate)}
    merged = {
        k: {**base[k], **v} if isinstance(v, Mapping) and isinstance(base.get(k), Mapping) else v
        for k, v in changes.items()
    }
    return {**base, **merged}


def _name_schedule(schedule, decay_steps):
    return schedule or ("constant" if decay_steps is None else "exponential")


def _choose_rate(base, changes):
    """Return what a mapping keeps of another learning rate: of another schedule, `initial` only."""
    base = dict(base) if isinstance(base, Mapping) else {} if base is None else {"initial": base}
    schedule = _name_schedule(base.get("schedule"), base.get("decay_steps"))
    if changes.get("schedule") in (None, schedule):
        return base
    return {"initial": base["initial"]} if "initial" in base else {}


def _expand_rule(role, value):
    """Make the mapping for a kind of normalization; `None` for the target's `input`."""
    if (role, value) == ("target", "input"):
        return None
    fits = f"a kind such as percentile, or {describe_type(Normalizer)}"
    check_fits(isinstance(value, str | Mapping | Normalizer), f"normalize.{role}", value, fits)
    return {"kind": value} if isinstance(value, str) else value


def _is_span(value):
    whole = isinstance(value, list | tuple) and all(type(n) is int for n in value)
    return whole and len(value) == 2 and 0 <= value[0] < value[1]
