"""A recipe: everything a training run depends on, in one YAML file."""

import inspect
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import yaml

from gvtnets_tf.axes import check_axes
from gvtnets_tf.card import UNDO
from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data import pairs as pairing
from gvtnets_tf.data import readers
from gvtnets_tf.data.image import Image
from gvtnets_tf.data.patches import WEIGHTINGS
from gvtnets_tf.data.pipeline import check_same_size
from gvtnets_tf.losses import LOSSES, PROBABILISTIC
from gvtnets_tf.models.presets import MODELS, PRESETS, preset
from gvtnets_tf.models.projection import ProjectionGVTNet

PARTS = ("train", "select", "report")
DATA_KEYS = (
    "root", "csv", "inputs", "targets", "npz", "axes", "target_axes", "input_channels",
    "target_channels", "pair_by", "regions",
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One pair of images, and the part of the data it belongs to.

    Attributes:
        input, target: `Image`, on disk where possible.
        part: `"train"`, `"select"`, `"report"`, or `""` where nothing was said.
    """

    input: Image
    target: Image
    part: str = ""

    def along(self, letter):
        """Take the pair apart along an axis; a pair without it is passed over.

        Raises:
            ValueError: naming both images, if they have not as many entries.
        """
        parts = [image.along(letter) for image in (self.input, self.target)]
        if len(parts[0]) != len(parts[1]):
            raise ValueError(
                f"{self.input.name} has {len(parts[0])} entries along {letter}, "
                f"{self.target.name} has {len(parts[1])}: they must be equal."
            )
        return [replace(self, input=i, target=t) for i, t in zip(*parts)]


@dataclass(frozen=True)
class Recipe:
    """What a training run depends on. Unknown keys are errors.

    Attributes:
        preset: str. A published architecture, whose published training numbers fill in
            what is not given here.
        model: mapping. Arguments of the network that differ from the preset; without a
            preset, all of them and its `class`.
        data: mapping. Where the pairs are: `root`, and one of `csv`, `npz`, or `inputs`
            with `targets`; `axes`, `target_axes`, `input_channels`, `target_channels`,
            `pair_by`, and `regions`, a mapping from `train`, `select`, `report` to
            `{axis: [start, stop]}` in voxels.
        normalize: mapping with `input`, `target` (see `Normalizer`) and `undo`. The target
            may also be `"input"`: by the numbers of its input, so that with `undo: input`
            predictions have the units of the target.
        patch: sequence of int. Voxels per spatial axis of the network.
        batch, steps: int. Patches per step, and steps in all, rounded up so that all
            epochs have equally many.
        loss: one of `LOSSES`.
        optimizer: mapping. Arguments of Adam.
        schedule: mapping with `rate`, and `decay` and `every` (steps), a staircase.
        augment: mapping with `flip` and `rotate`.
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
        check_choice("weighting", self.weighting, WEIGHTINGS)
        for name in ("batch", "steps", "epoch", "select_patches"):
            check_at_least(name, getattr(self, name), 1)
        if not 0 <= self.select < 1:
            raise ValueError(
                f"`select` must be a share from 0 to below 1. Received: {self.select!r}."
            )
        _check_keys("data", self.data, DATA_KEYS)
        _check_keys("normalize", self.normalize, ("input", "target", "undo"))
        _check_keys("augment", self.augment, ("flip", "rotate"))
        _check_keys("schedule", self.schedule, ("rate", "decay", "every"))
        _check_keys("optimizer", self.optimizer, ("beta_1", "beta_2", "epsilon"))
        undo = check_choice("undo", self.normalize.get("undo", "input"), UNDO)
        if self.normalize.get("target") == "input" and undo == "stored":
            raise ValueError(
                "A target normalised by the numbers of its input has none of its own to store: "
                "use `undo: input` with `target: input`."
            )
        for part, region in (self.data.get("regions") or {}).items():
            check_choice("part", part, PARTS)
            check_axes("".join(region))

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
        merged["patch"] = tuple(merged.get("patch", cls.patch))
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
        return yaml.safe_dump(values | {"patch": list(self.patch)}, sort_keys=False)

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
    def rules(self):
        """Normalisation of `input` and of `target`, as given or by percentiles."""
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
        scaled = self.loss in PROBABILISTIC
        if target.setdefault("scale_head", scaled) != scaled:
            raise ValueError(
                f"The loss {self.loss!r} needs a network with scale_head={scaled}: leave "
                f"`scale_head` out, or take another loss. Received: {target['scale_head']}."
            )
        if projects:
            known = PRESETS["projection"].config["restoration"] if self.preset else {}
            arguments["restoration"] = {**known, **target}
        model = self._class()(**arguments) if not self.preset else preset(self.preset, **arguments)
        model.build((None, *(None,) * model.rank, channels[0]))
        return model

    def _class(self):
        return PRESETS[self.preset].model if self.preset else MODELS[self.model["class"]]

    def samples(self):
        """Open all pairs that the recipe names.

        Returns:
            List of `Sample`, one per pair of files or region of one.

        Raises:
            ValueError, FileNotFoundError: naming the file and what is wrong with it.
        """
        data = self.data
        if self._class() is ProjectionGVTNet and data.get("axes"):
            data = {"target_axes": data["axes"].upper().replace("Z", ""), **data}
        found = []
        for input, target, part in _images(data):
            chosen = (
                input.select_channels(data.get("input_channels")),
                target.select_channels(data.get("target_channels")),
            )
            check_same_size(*chosen)  # before a region hides it
            for region_part, region in (data.get("regions") or {part: {}}).items():
                inside = [image.crop(_inside(region, image)) for image in chosen]
                found.append(Sample(*inside, region_part))
        if not found:
            raise ValueError("The recipe names no data: give `inputs` and `targets`, or `csv`.")
        return found

    def divided(self, samples):
        """Divide samples into those to train on and those to choose the best weights by.

        Where the data say nothing, whole files at even distances are kept for it; below
        five files a block at the end of X, with a gap of one patch before it. Only then
        is each taken apart along T, so that frames of one movie stay together.

        Returns:
            Two lists of `Sample`.

        Raises:
            ValueError: naming the image that is too small to be divided.
        """
        return tuple([f for s in part for f in s.along("T")] for part in self._divided(samples))

    def _divided(self, samples):
        train = [s for s in samples if s.part in ("train", "")]
        select = [s for s in samples if s.part == "select"]
        if select or not self.select:
            return train, select
        if len(train) >= 5:
            count = max(1, round(self.select * len(train)))
            chosen = {len(train) * i // count - 1 for i in range(1, count + 1)}
            parts = [i for i in range(len(train)) if i not in chosen], sorted(chosen)
            return tuple([train[i] for i in part] for part in parts)
        return self._cut_end(train)

    def _cut_end(self, samples):
        gap = self.patch[-1]
        train, select = [], []
        for s in samples:
            width = s.input.sizes["X"]
            block = max(gap, round(width * self.select))
            if width < block + 2 * gap:
                raise ValueError(
                    f"{s.input.name} has {width} voxels along X: too few to keep {block} of them "
                    f"for choosing the best weights, with a gap of one patch ({gap}). Use a "
                    f"smaller patch, give `regions`, or `select: 0`."
                )
            for part, region in (
                (train, (0, width - block - gap)),
                (select, (width - block, width)),
            ):
                cut = {"X": region}
                part.append(Sample(s.input.crop(cut), s.target.crop(cut), s.part))
        return train, select


def _images(data):
    """Yield (input, target, part) of the files that the mapping names."""
    root = Path(data.get("root", "."))
    axes, target_axes = data.get("axes"), data.get("target_axes", data.get("axes"))
    ways = [key for key in ("csv", "npz", "inputs") if data.get(key)]
    if len(ways) != 1 or (ways == ["inputs"] and not data.get("targets")):
        raise ValueError(
            f"`data` must name its files in one way: `csv`, `npz`, or `inputs` with `targets`. "
            f"Received: {ways or 'none of them'}."
        )
    if ways == ["npz"]:
        for path in pairing.expand(str(root / data["npz"])):
            for input, target in readers.read_npz(path):
                yield input, target, ""
        return
    if ways == ["csv"]:
        rows = pairing.from_csv(root / data["csv"], root=root)
    else:
        by = data.get("pair_by", "name")
        found = pairing.match(str(root / data["inputs"]), str(root / data["targets"]), pair_by=by)
        rows = [pairing.Row(input, target, "") for input, target in found]
    for row in rows:
        input, target = readers.read(row.input, axes), readers.read(row.target, target_axes)
        if row.input_channel is not None:
            input = input.select_channels([row.input_channel])
        if row.target_channel is not None:
            target = target.select_channels([row.target_channel])
        yield input, target, row.split or ""


def _inside(region, image):
    """The part of a region that the image has axes for (a projection's target has no Z)."""
    return {axis: tuple(r) for axis, r in region.items() if axis in image.axes or axis != "Z"}


def _check_keys(name, values, known):
    for key in values:
        check_choice(f"key of {name}", key, known)
