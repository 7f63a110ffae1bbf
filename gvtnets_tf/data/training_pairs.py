"""Pairs of images that a recipe names, and the part of the data each belongs to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from gvtnets_tf.data import pairing
from gvtnets_tf.data.in_silico_labeling import file_names, wells
from gvtnets_tf.images import readers
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine
from gvtnets_tf.images.resampling import resize

PARTS = ("train", "validation", "test")
WAYS = ("csv", "npz", "wells", "inputs")  # of naming files: one of them


@dataclass(frozen=True)
class Pair:
    """An input, its target, and how each is normalized.

    Attributes:
        input, target: `Image`, in any axis order, possibly still on disk. Their spatial
            sizes agree, except that the target of a projection has no Z, or one plane.
        input_affine, target_affine: `Affine` with one offset and one gain per channel.
        around: `Image` of which the input is a region, or `None`. A patch at several scales
            is cut out of it.
        origin: mapping from axis letter to the first voxel of the input in `around`.

    Raises:
        ValueError: naming both images, if their sizes differ or an affine is for
            another number of channels.
    """

    input: Image
    target: Image
    input_affine: Affine
    target_affine: Affine
    around: Image | None = None
    origin: Mapping = field(default_factory=dict)

    def __post_init__(self):
        check_same_size(self.input, self.target)
        _check_channels(self.input, self.input_affine)
        _check_channels(self.target, self.target_affine)

    @classmethod
    def measured(cls, input, target, input_normalizer, target_normalizer, **where):
        """Make a pair, its two maps measured on these two images, each read once.

        Args:
            input, target: `Image`.
            input_normalizer, target_normalizer: `Normalizer`.
            **where: `around` and `origin`; then the input is measured on all of `around`.
        """
        seen = where.get("around") or input
        affines = (
            rule.measure_images([image], describe(image))
            for rule, image in ((input_normalizer, seen), (target_normalizer, target))
        )
        return cls(input, target, *affines, **where)

    @property
    def projects(self):
        """Whether the target is one plane made from a stack."""
        return _projects(self.input, self.target)

    @property
    def kind(self):
        """What pairs must share to be mixed: channels in and out, and whether they project."""
        return (*(i.sizes.get("C", 1) for i in (self.input, self.target)), self.projects)


def check_same_size(input, target):
    """Refuse an input and a target whose voxels are not the same ones.

    Raises:
        ValueError: naming both images and the axes, unless all that differs is Z of a
            projection, whose target has none or one plane.
    """
    differ = [a for a in "TZYX" if input.sizes.get(a, 1) != target.sizes.get(a, 1)]
    if differ and not (differ == ["Z"] and _projects(input, target)):
        raise ValueError(
            f"Input and target must have the same size along {', '.join(differ)}: crop or "
            f"resample one of them, or check that they belong together. Received: "
            f"{describe(input)} and {describe(target)}."
        )


def _projects(input, target):
    return input.sizes.get("Z", 1) > target.sizes.get("Z", 1) == 1


def describe(image):
    return f"{image.name or 'an image without a name'} ({image.axes} {image.shape})"


def _check_channels(image, affine):
    channels = image.sizes.get("C", 1)
    if np.shape(affine.offset) != (channels,) or np.shape(affine.gain) != (channels,):
        raise ValueError(
            f"The normalization of {describe(image)} must have one offset and one gain for each "
            f"of its {channels} channels. Received: shapes {np.shape(affine.offset)} and "
            f"{np.shape(affine.gain)}."
        )


@dataclass(frozen=True)
class Sample:
    """One pair of images, and the part of the data it belongs to.

    Attributes:
        input, target: `Image`, on disk where possible.
        part: `"train"`, `"validation"`, `"test"`, or `""` where nothing was said.
        around: `Image`, the whole input of which `input` is a region, for networks that
            look beyond a patch; `None` where `input` is all there is.
        origin: mapping from axis letter to the first voxel of `input` in `around`.
        resize: tuple of float. Factors along Z, Y and X by which both images are to be
            resized once they were measured; empty for none.
    """

    input: Image
    target: Image
    part: str = ""
    around: Image | None = None
    origin: Mapping = field(default_factory=dict)
    resize: tuple = ()

    def resized(self):
        """The pair at the size that the network sees, in memory."""
        if not self.resize:
            return self
        return replace(
            self,
            input=resize(self.input, self.resize),
            target=resize(self.target, self.resize),
            resize=(),
        )

    def along(self, letter):
        """Take the pair apart along an axis; a pair without it is passed over.

        Raises:
            ValueError: naming both images, if they have not as many entries.
        """
        inputs, targets = (image.along(letter) for image in (self.input, self.target))
        if len(inputs) != len(targets):
            raise ValueError(
                f"{self.input.name} has {len(inputs)} entries along {letter}, "
                f"{self.target.name} has {len(targets)}: they must be equal."
            )
        around = [None] * len(inputs)
        if self.around is not None:
            first = self.origin.get(letter, 0)
            around = self.around.along(letter)[first : first + len(inputs)]
        return [
            replace(self, input=i, target=t, around=a) for i, t, a in zip(inputs, targets, around)
        ]

    def crop(self, region):
        """Keep a region, `{axis: (start, stop)}`; a target without Z passes its Z over."""
        at = dict(self.origin)
        for axis, (start, _) in region.items():
            at[axis] = at.get(axis, 0) + start
        own = {a: tuple(r) for a, r in region.items() if a in self.target.axes or a != "Z"}
        return replace(
            self,
            input=self.input.crop({a: tuple(r) for a, r in region.items()}),
            target=self.target.crop(own),
            around=self.input if self.around is None else self.around,
            origin=at,
        )


def opened(data):
    """Open all pairs that the `data` of a recipe names.

    Returns:
        List of `Sample`, one per pair of files or region of one.

    Raises:
        ValueError, FileNotFoundError: naming the file and what is wrong with it.
    """
    _check_resize(data)
    found = []
    for input, target, part in _images(data):
        chosen = (
            input.select_channels(data.get("input_channels")),
            target.select_channels(data.get("target_channels")),
        )
        check_same_size(*chosen)  # before a region hides it
        regions, factors = data.get("regions"), tuple(data.get("resize") or ())
        sample = Sample(*chosen, part, resize=factors)
        found += (
            [replace(sample.crop(r), part=p) for p, r in regions.items()] if regions else [sample]
        )
    if not found:
        raise ValueError("The recipe names no data: give `inputs` and `targets`, or `csv`.")
    return found


def _check_resize(data):
    factors = data.get("resize")
    if factors is None:
        return
    if data.get("regions"):
        raise ValueError("`regions` count voxels before, patches after `resize`: use only one.")
    if len(factors) not in (2, 3) or not all(0 < f < math.inf for f in factors):
        raise ValueError(
            f"`resize` has a factor above zero for Z, Y and X, or for Y and X. Received: {factors}."
        )


def divided(samples, select, gap):
    """Divide samples into those to train on and those to choose the best weights by.

    Where the data say nothing, whole files at even distances are kept for it; below
    five files a block at the end of X, with a gap before it. Only then is each taken apart
    along T, so that frames of one movie stay together.

    Args:
        samples: list of `Sample`.
        select: float. Share to keep.
        gap: int. Voxels along X between the two, of one patch.

    Returns:
        Two lists of `Sample`.

    Raises:
        ValueError: naming the image that is too small to be divided.
    """
    parts = _divided(samples, select, gap)
    return tuple([frame for sample in part for frame in sample.along("T")] for part in parts)


def _divided(samples, select, gap):
    train = [s for s in samples if s.part in ("train", "")]
    chosen = [s for s in samples if s.part == "validation"]
    if chosen or not select:
        return train, chosen
    if len(train) < 5:
        return _cut_end(train, select, gap)
    count = max(1, round(select * len(train)))
    kept = {len(train) * i // count - 1 for i in range(1, count + 1)}
    return [s for i, s in enumerate(train) if i not in kept], [train[i] for i in sorted(kept)]


def _cut_end(samples, select, gap):
    parts = [], []
    for s in samples:
        width = s.input.sizes["X"]
        block = max(gap, round(width * select))
        if width < block + 2 * gap:
            raise ValueError(
                f"{s.input.name} has {width} voxels along X: too few to keep {block} of them "
                f"for choosing the best weights, with a gap of one patch ({gap}). Use a "
                f"smaller patch, give `regions`, or `validation_split: 0`."
            )
        for part, x in zip(parts, ((0, width - block - gap), (width - block, width))):
            part.append(s.crop({"X": x}))
    return parts


def _images(data):
    """Yield (input, target, part) of the files that the mapping names."""
    ways = [key for key in WAYS if data.get(key)]
    if len(ways) != 1 or (ways == ["inputs"] and not data.get("targets")):
        raise ValueError(
            f"`data` must name its files in one way: `csv`, `npz`, `wells`, or `inputs` with "
            f"`targets`. Received: {ways or 'none of them'}."
        )
    only_wells = [key for key in ("conditions", "split", "labels") if data.get(key)]
    if only_wells and ways != ["wells"]:
        raise ValueError(
            f"{', '.join(f'`{key}`' for key in only_wells)} are of the in-silico labeling data "
            f"(`wells`): leave them out, or choose channels with `target_channels`. Received: "
            f"{ways[0]!r}."
        )
    return OPEN[ways[0]](data, Path(data.get("root", ".")))


def _from_npz(data, root):
    for path in pairing.expand(str(root / data["npz"])):
        for input, target in readers.read_npz(path):
            yield input, target, ""


def _from_wells(data, root):
    """Wells of the in-silico-labeling data; those it calls `test` are the report part."""
    parts = {"train": "", "test": "test"}
    labels = data.get("labels", file_names.LABELS)
    for well in wells.find_wells(root / data["wells"], data.get("conditions"), data.get("split")):
        yield well.input(), well.target(labels), parts.get(well.split, "")


def _from_csv(data, root):
    return _rows(pairing.from_csv(root / data["csv"], root=root), data)


def _from_globs(data, root):
    by = data.get("pair_by", "name")
    found = pairing.match(str(root / data["inputs"]), str(root / data["targets"]), pair_by=by)
    return _rows([pairing.Row(input, target, "") for input, target in found], data)


def _rows(rows, data):
    axes, target_axes = data.get("axes"), data.get("target_axes", data.get("axes"))
    for row in rows:
        input, target = readers.read(row.input, axes), readers.read(row.target, target_axes)
        if row.input_channel is not None:
            input = input.select_channels([row.input_channel])
        if row.target_channel is not None:
            target = target.select_channels([row.target_channel])
        yield input, target, row.split or ""


OPEN = {"npz": _from_npz, "wells": _from_wells, "csv": _from_csv, "inputs": _from_globs}
