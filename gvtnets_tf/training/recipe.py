"""A recipe: everything a training run depends on, in one YAML file."""

import inspect
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import yaml

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data import training_pairs
from gvtnets_tf.data.augmentation import Intensity
from gvtnets_tf.data.multiscale import check_scales
from gvtnets_tf.data.pairing import SPLITS
from gvtnets_tf.data.patch_sampling import SAMPLING
from gvtnets_tf.images.axes import check_axes
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.models.gvtnet import GVTNet
from gvtnets_tf.models.losses import CLASSES, LOSSES, PROBABILISTIC
from gvtnets_tf.models.presets import MODELS, PRESETS, preset
from gvtnets_tf.models.projection import ProjectionGVTNet
from gvtnets_tf.zoo.card import DENORMALIZE

INTENSITY = tuple(f.name for f in fields(Intensity))
OPTIMIZER = ("beta_1", "beta_2", "epsilon", "weight_decay")


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on. Unknown keys are errors.

    Attributes:
        preset: str. A published architecture, whose published training numbers fill in
            what is not given here.
        model: mapping. Arguments of the network that differ from the preset; without a
            preset, all of them and its `class`.
        data: mapping. Where the pairs are: `root`, and one of `csv`, `npz`, `wells` (a folder of
            the in-silico-labeling data, with `conditions`, `split` and `labels`), or `inputs`
            with `targets`; `axes`, `target_axes`, `input_channels`, `target_channels`,
            `pair_by`, and `regions`, a mapping from `train`, `validation`, `test` to
            `{axis: [start, stop]}` in voxels; `resize`, factors along Z, Y and X by which
            images are resized (cubic) once they were measured.
        normalize: mapping with `input`, `target` (see `Normalizer`) and `denormalize`. The target
            may also be `"input"`: by the numbers of its input, so that with `denormalize: input`
            predictions have the units of the target.
        patch: sequence of int. Voxels per spatial axis of the network.
        scales: sequence of float. Extents at which the input is cut around the center of a
            patch, see `multiscale.crop_multiscale`.
        batch, steps: int. Patches per step, and steps in all, rounded up so that all
            epochs have equally many.
        loss: one of `LOSSES`.
        optimizer: mapping. Arguments of Adam.
        schedule: mapping with `rate`, and `decay` and `every` (steps), a staircase.
        augment: mapping with `flip`, `rotate`, and `intensity`, itself a mapping with `gain`,
            `offset`, `noise` and `drop`, see `Intensity`.
        weighting: `"uniform"` or `"foreground"`: where patches are taken.
        select: float. Share of the files kept for choosing the best weights, where the
            data say nothing about it.
        select_patches: int. At most so many patches of the select part are looked at.
        epoch: int. Steps between two looks at the select part; at most one epoch is
            lost by a kill.
        seed: int.
    """

    preset: str | None = None
    model: Mapping = field(default_factory=dict)
    data: Mapping = field(default_factory=dict)
    normalize: Mapping = field(default_factory=dict)
    patch: tuple = (16, 64, 64)
    scales: tuple = (1,)
    batch: int = 16
    steps: int = 10_000
    loss: str = "mae"
    optimizer: Mapping = field(default_factory=dict)
    schedule: Mapping = field(default_factory=dict)
    augment: Mapping = field(default_factory=dict)
    weighting: str = "uniform"
    select: float = 0.1
    select_patches: int = 64
    epoch: int = 500
    seed: int = 0

    def __post_init__(self):
        if self.preset is None:
            check_choice("model.class", self.model.get("class"), MODELS)
        elif "class" in self.model:
            raise ValueError(
                f"A preset has a class of its own: leave `model.class` out, or the preset. "
                f"Received: preset={self.preset!r}, class={self.model['class']!r}."
            )
        known = inspect.signature(self._class()).parameters.keys() - {"kwargs"}
        _check_keys("model", self.model, ["class", *known])
        check_choice("loss", self.loss, LOSSES)
        check_choice("weighting", self.weighting, SAMPLING)
        for name in ("batch", "steps", "epoch", "select_patches"):
            check_at_least(name, getattr(self, name), 1)
        if not 0 <= self.select < 1:
            raise ValueError(
                f"`select` must be a share from 0 to below 1. Received: {self.select!r}."
            )
        _check_keys("data", self.data, training_pairs.KEYS)
        _check_keys("normalize", self.normalize, ("input", "target", "denormalize"))
        _check_keys("augment", self.augment, ("flip", "rotate", "intensity"))
        _check_keys("augment.intensity", self.augment.get("intensity") or {}, INTENSITY)
        self._check_windows()
        _check_keys("schedule", self.schedule, ("rate", "decay", "every"))
        _check_keys("optimizer", self.optimizer, OPTIMIZER)
        denormalize = check_choice(
            "denormalize", self.normalize.get("denormalize", "input"), DENORMALIZE
        )
        if self.normalize.get("target") == "input" and denormalize == "stored":
            raise ValueError(
                "A target normalized by the numbers of its input has none of its own to store: "
                "use `denormalize: input` with `target: input`."
            )
        for part, region in (self.data.get("regions") or {}).items():
            check_choice("part", part, SPLITS)
            check_axes("".join(region))

    def _check_windows(self):
        for name in ("patch", "scales"):
            values = getattr(self, name)
            if not all(isinstance(v, (int, float)) for v in values):
                raise ValueError(f"`{name}` is a list of numbers. Received: {list(values)}.")
        if len(self.patch) == len(self.axes):  # else the pipeline says so
            check_scales(self.scales, self.patch, self.axes)
        _ = self.intensity  # refuses what it cannot use
        target = Normalizer.parse(self.rules["target"])
        if self.loss in CLASSES and target.kind in ("zscore", "unit"):
            raise ValueError(
                f"The classes of {self.loss!r} go from 0 to 1: normalize the target by "
                f"'percentile' or 'fixed'. Received: {target.kind!r}."
            )

    @classmethod
    def parse(cls, values):
        """Fill a mapping in with the numbers of its preset.

        Raises:
            ValueError: naming an unknown key and the nearest one.
        """
        if not isinstance(values, Mapping):
            raise ValueError(f"A recipe is a mapping. Received: {type(values).__name__}.")
        _check_keys("recipe", values, [f.name for f in fields(cls)])
        name = values.get("preset")
        published = {} if name is None else PRESETS[check_choice("preset", name, PRESETS)].training
        merged = {**published, **values}
        for key in ("normalize", "schedule"):
            merged[key] = {**published.get(key, {}), **values.get(key, {})}
        for key in ("patch", "scales"):
            value = merged.get(key, getattr(cls, key))
            if not isinstance(value, (list, tuple)):
                raise ValueError(f"`{key}` is a list of numbers. Received: {value!r}.")
            merged[key] = tuple(value)
        return cls(**merged)

    @classmethod
    def load(cls, path):
        """Read a recipe from a YAML file; `data.root` is relative to the file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it is not YAML, or for what `parse` refuses.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no recipe at {path}.")
        try:
            values = yaml.safe_load(path.read_text())
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not YAML: {error}") from error
        recipe = cls.parse(values)
        root = path.parent / Path(recipe.data.get("root", ".")).expanduser()
        return recipe.changed(data={**recipe.data, "root": str(root)})

    def changed(self, **changes):
        """A copy with other values."""
        return type(self)(**{f.name: getattr(self, f.name) for f in fields(self)} | changes)

    def dump(self, folder="."):
        """The filled-in recipe as YAML, with `data.root` relative to where it will lie."""
        values = {k: v for k, v in asdict(self).items() if v not in (None, {})}
        root = Path(self.data.get("root", ".")).expanduser()
        values["data"] = {**self.data, "root": Path(os.path.relpath(root, folder)).as_posix()}
        lists = {key: list(getattr(self, key)) for key in ("patch", "scales")}
        return yaml.safe_dump(values | lists, sort_keys=False)

    @property
    def axes(self):
        """Spatial axes of one input image of the network."""
        if self.preset is None or "rank" in self.model:
            return "YX" if self.model.get("rank", 3) == 2 else "ZYX"
        return PRESETS[self.preset].axes

    @property
    def epochs(self):
        """How many epochs the steps make, all of equal length, `epoch` steps at most."""
        return -(-self.steps // self.epoch)

    @property
    def intensity(self):
        """How the brightness of inputs is changed at random, or `None`."""
        given = self.augment.get("intensity")
        return Intensity(**given) if given else None

    @property
    def rules(self):
        """Normalization of `input` and of `target`, as given or by percentiles."""
        rules = {role: self.normalize.get(role, "percentile") for role in ("input", "target")}
        return rules | {"target": "none"} if rules["target"] == "input" else rules

    def build(self, channels):
        """Make the network, with one output per target channel.

        Args:
            channels: `(input channels, target channels)`.

        Returns:
            A built `ImageModel`.

        Raises:
            ValueError: if the recipe asks for another number of output channels.
        """
        arguments = {k: v for k, v in self.model.items() if k != "class"}
        projects = self._class() is ProjectionGVTNet
        target = dict(arguments.get("restoration", {})) if projects else arguments
        if target.setdefault("out_channels", channels[1]) != channels[1]:
            raise ValueError(
                f"The targets have {channels[1]} channels. Received: "
                f"out_channels={target['out_channels']}."
            )
        made = GVTNet if projects else self._class()
        self._take("scale_head", self.loss in PROBABILISTIC, target, made)
        self._take("classes", 256 if self.loss in CLASSES else None, target, made)
        if projects:
            known = PRESETS["projection"].config["restoration"] if self.preset else {}
            arguments["restoration"] = {**known, **target}
        model = self._class()(**arguments) if not self.preset else preset(self.preset, **arguments)
        model.build((None, *(None,) * model.rank, channels[0] * len(self.scales)))
        return model

    def _take(self, name, wanted, arguments, made):
        """Fill in an argument that the loss decides on, or refuse one that does not fit it."""
        known = name in inspect.signature(made).parameters
        if known or wanted:
            given = arguments.setdefault(name, wanted)
            if not known or bool(given) != bool(wanted):
                raise ValueError(
                    f"The loss {self.loss!r} needs a network with {name}={wanted}: leave `{name}` "
                    f"out, or take another loss or network. Received: {given}."
                )

    def _class(self):
        return PRESETS[self.preset].model if self.preset else MODELS[self.model["class"]]

    def samples(self):
        """Open all pairs that the recipe names: list of `TrainingPair`.

        Raises:
            ValueError, FileNotFoundError: naming the file and what is wrong with it.
        """
        data = self.data
        if self._class() is ProjectionGVTNet and data.get("axes"):
            data = {"target_axes": data["axes"].upper().replace("Z", ""), **data}
        return training_pairs.open_pairs(data)

    def divided(self, found):
        """Divide samples into those to train on and those to choose by, see `split_pairs`."""
        return training_pairs.split_pairs(found, self.select, self.patch[-1])


def _check_keys(name, values, known):
    for key in values:
        check_choice(f"key of {name}", key, known)
