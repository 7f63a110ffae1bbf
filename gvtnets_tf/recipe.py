"""A recipe: everything a training run depends on, in one YAML file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import yaml

from gvtnets_tf.axes import check_axes
from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data import pairs as pairing
from gvtnets_tf.data import readers
from gvtnets_tf.data.image import Image
from gvtnets_tf.data.patches import WEIGHTINGS
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
        batch, steps: int. Patches per step, and steps in all.
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
        for part, region in self.data.get("regions", {}).items():
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
        except yaml.YAMLError as error:
            raise ValueError(f"{path} is not YAML: {error}") from error
        recipe = cls.parse(values)
        root = path.parent / Path(recipe.data.get("root", ".")).expanduser()
        return recipe.changed(data={**recipe.data, "root": str(root)})

    def changed(self, **changes):
        """A copy with other values."""
        return type(self)(**{f.name: getattr(self, f.name) for f in fields(self)} | changes)

    def dump(self):
        """The filled-in recipe as YAML."""
        values = {k: v for k, v in asdict(self).items() if v not in (None, {})}
        return yaml.safe_dump(values | {"patch": list(self.patch)}, sort_keys=False)

    @property
    def axes(self):
        """Spatial axes of one input image of the network."""
        if self.preset is None or "rank" in self.model:
            return "YX" if self.model.get("rank", 3) == 2 else "ZYX"
        return PRESETS[self.preset].axes

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
        target.setdefault("scale_head", self.loss in PROBABILISTIC)
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

        Axes that the network does not have (T; Z for a 2-D network) are taken apart.

        Returns:
            List of `Sample`.

        Raises:
            ValueError, FileNotFoundError: naming the file and what is wrong with it.
        """
        data = self.data
        found = []
        for input, target, part in _images(data):
            chosen = (
                input.select_channels(data.get("input_channels")),
                target.select_channels(data.get("target_channels")),
            )
            for region_part, region in (data.get("regions") or {part: {}}).items():
                inside = [image.crop(_inside(region, image)) for image in chosen]
                spare = "".join(a for a in "TZYX" if a not in self.axes)
                frames = [i.along(spare) for i in inside]
                if len(frames[0]) != len(frames[1]):
                    raise ValueError(
                        f"{input.name} has {len(frames[0])} frames along {spare}, {target.name} "
                        f"has {len(frames[1])}: they must be equal."
                    )
                found += [Sample(*pair, region_part) for pair in zip(*frames)]
        if not found:
            raise ValueError("The recipe names no data: give `inputs` and `targets`, or `csv`.")
        return found

    def divided(self, samples):
        """Divide samples into those to train on and those to choose the best weights by.

        Where the data say nothing, whole files at even distances are kept for it; below
        five files a block at the end of X, with a gap of one patch before it.

        Returns:
            Two lists of `Sample`.
        """
        train = [s for s in samples if s.part in ("train", "")]
        select = [s for s in samples if s.part == "select"]
        if select or not self.select:
            return train, select
        if len(train) >= 5:
            every = round(1 / self.select)
            chosen = range(len(train) - 1, -1, -max(2, every))
            kept = [s for i, s in enumerate(train) if i not in chosen]
            return kept, [train[i] for i in sorted(chosen)]
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
    if len(ways) != 1:
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
