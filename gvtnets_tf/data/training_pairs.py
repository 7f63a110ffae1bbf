"""Pairs of images: opened as a recipe names them, split, cropped and measured."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from gvtnets_tf.checks import check_choice, quote
from gvtnets_tf.data.in_silico_labeling import file_names, wells
from gvtnets_tf.data.pairing import SPLITS, PairPaths, match_pairs, read_pairs_csv
from gvtnets_tf.data.sources import find
from gvtnets_tf.images import readers
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine, Normalizer
from gvtnets_tf.images.resampling import resize

WELL_KEYS = ("conditions", "split", "labels")
KEYS = (
    "csv", "npz", "wells", "inputs", *WELL_KEYS, "root", "targets", "axes", "target_axes",
    "input_channels", "target_channels", "pair_by", "regions", "resize",
)  # fmt: skip


@dataclass(frozen=True)
class TrainingPair:
    """An input image, its target, and the maps that normalize them.

    Attributes:
        input, target: `Image`, in any axis order, possibly still on disk. Their spatial
            sizes agree, except that the target of a projection has no Z, or one plane.
        input_affine, target_affine: `Affine` with one offset and one gain per channel, or
            `None` before `measure`. A data set takes measured pairs only.
        split: `"train"`, `"validation"`, `"test"`, or `""` if the pair is not assigned to one.
        around: `Image` of which `input` is a region, seen at larger scales; or `None`.
        origin: mapping from axis letter to the first voxel of `input` in `around`.
        resize: tuple of float. Factors of `resize_to_network` along Z, Y and X (or Y and X).

    Raises:
        ValueError: naming both images, if their sizes differ, or naming the image whose affine is
            for another number of channels.

    Examples:
        >>> noisy = Image(np.arange(256.0).reshape(16, 16), "YX")
        >>> pair = TrainingPair(noisy, noisy).measure("unit", "unit")
        >>> pair.input_affine.offset, pair.crop({"X": (4, 12)}).input.shape
        (array([127.5]), (16, 8))
    """

    input: Image
    target: Image
    input_affine: Affine | None = None
    target_affine: Affine | None = None
    split: str = ""
    around: Image | None = None
    origin: Mapping = field(default_factory=dict)
    resize: tuple = ()

    def __post_init__(self):
        check_choice("split", self.split, ("", *SPLITS))
        sizes = self.input.sizes, self.target.sizes
        differ = [a for a in "TZYX" if sizes[0].get(a, 1) != sizes[1].get(a, 1)]
        if differ and not (differ == ["Z"] and self.projects):
            raise ValueError(
                f"Input and target must have the same size along {', '.join(differ)}: crop or "
                f"resample one of them, or check that they belong together. Received: "
                f"{describe(self.input)} and {describe(self.target)}."
            )
        for image, affine in ((self.input, self.input_affine), (self.target, self.target_affine)):
            channels = image.sizes.get("C", 1)
            if affine and not np.shape(affine.offset) == np.shape(affine.gain) == (channels,):
                raise ValueError(
                    f"The normalization of {describe(image)} must have one offset and one gain "
                    f"for each of its {channels} channels. Received: shapes "
                    f"{np.shape(affine.offset)} and {np.shape(affine.gain)}."
                )

    @property
    def projects(self) -> bool:
        """True if the target is one plane made from a stack."""
        return self.input.sizes.get("Z", 1) > self.target.sizes.get("Z", 1) == 1

    @property
    def kind(self) -> tuple:
        """`(input channels, target channels, projects)`, equal for all pairs of a data set."""
        return (*(i.sizes.get("C", 1) for i in (self.input, self.target)), self.projects)

    def measure(
        self, input_normalizer: Normalizer | str | Mapping = "percentile",
        target_normalizer: Normalizer | str | Mapping = "percentile",
    ) -> "TrainingPair":  # fmt: skip
        """Measure both maps, on the whole image `around` the input if there is one.

        Each argument is a `Normalizer`, or what `Normalizer.parse` takes.

        Raises:
            ValueError: naming the image, if it is constant or not finite.
        """
        rules = Normalizer.parse(input_normalizer), Normalizer.parse(target_normalizer)
        images = self.around or self.input, self.target
        affines = [r.measure_images([i], describe(i)) for r, i in zip(rules, images)]
        return replace(self, input_affine=affines[0], target_affine=affines[1])

    def resize_to_network(self) -> "TrainingPair":
        """Resize both images into memory; the maps stay, `around` (of other voxels) is dropped."""
        if not self.resize:
            return self
        input, target = (resize(image, self.resize) for image in (self.input, self.target))
        return replace(self, input=input, target=target, around=None, origin={}, resize=())

    def split_along(self, letter: str) -> list["TrainingPair"]:
        """Take the pair apart along an axis; a pair without it stays whole."""
        inputs, targets = (image.split_along(letter) for image in (self.input, self.target))
        if len(inputs) != len(targets):
            raise ValueError(
                f"{self.input.name} has {len(inputs)} entries along {letter}, "
                f"{self.target.name} has {len(targets)}: they must be equal."
            )
        first = self.origin.get(letter, 0)
        wholes = self.around.split_along(letter)[first:] if self.around else [None] * len(inputs)
        parts = zip(inputs, targets, wholes)
        return [replace(self, input=i, target=t, around=whole) for i, t, whole in parts]

    def crop(self, region: Mapping[str, Sequence[int]]) -> "TrainingPair":
        """Keep a region, `{axis: (start, stop)}` in voxels; Z is not cropped in a flat target."""
        origin = {axis: self.origin.get(axis, 0) + start for axis, (start, _) in region.items()}
        flat = self.target.sizes.get("Z", 1) == 1
        return replace(
            self,
            input=self.input.crop(region),
            target=self.target.crop({a: r for a, r in region.items() if not (flat and a == "Z")}),
            around=self.input if self.around is None else self.around,
            origin={**self.origin, **origin},
        )


def describe(image: Image) -> str:
    """Return the name, axes and shape of an image, for a message."""
    return f"{image.name or 'an image without a name'} ({image.axes} {image.shape})"


def open_pairs(data: Mapping | Any) -> list[TrainingPair]:
    """Open all pairs that the `data` of a recipe names, by file or region, not yet measured.

    `data` is a mapping with keys out of `KEYS`, or a dataclass with such fields.
    """
    data = data if isinstance(data, Mapping) else asdict(data)
    data = {key: value for key, value in data.items() if value is not None}
    for key in data:
        check_choice("key of data", key, KEYS)
    factors, regions, pairs = tuple(data.get("resize", ())), data.get("regions") or {}, []
    if factors and regions:
        raise ValueError("`regions` count voxels before, patches after `resize`: use only one.")
    if factors and (len(factors) not in (2, 3) or not all(0 < f < math.inf for f in factors)):
        raise ValueError(
            f"`resize` has a factor above zero for Z, Y and X, or for Y and X. "
            f"Received: {quote(list(factors))}."
        )
    channels = data.get("input_channels"), data.get("target_channels")
    for *images, split in _open_images(data):
        selected = (image.select_channels(c) for image, c in zip(images, channels))
        pair = TrainingPair(*selected, split=split, resize=factors)
        pairs += [replace(pair.crop(r), split=name) for name, r in regions.items()] or [pair]
    return pairs


def split_pairs(
    pairs: Sequence[TrainingPair], validation_split: float, gap: int
) -> tuple[list[TrainingPair], list[TrainingPair]]:
    """Split pairs into those to train on and those to validate with; of the test are neither.

    If no pair is assigned to validation, a share `validation_split` of whole files at even
    distances is taken for it; below five files a block at the end of X, `gap` voxels behind the
    rest. Then each pair is taken apart along T.
    """
    train = [pair for pair in pairs if pair.split in ("train", "")]
    validation = [pair for pair in pairs if pair.split == "validation"]
    if validation_split and not validation and len(train) < 5:
        train, validation = _cut_end(train, validation_split, gap)
    elif validation_split and not validation:
        count = max(1, round(validation_split * len(train)))
        taken = {len(train) * i // count - 1 for i in range(1, count + 1)}
        validation = [train[i] for i in sorted(taken)]
        train = [pair for i, pair in enumerate(train) if i not in taken]
    groups = train, validation
    # Only now, so that frames of one movie stay together.
    return tuple([frame for pair in group for frame in pair.split_along("T")] for group in groups)


def _cut_end(pairs, share, gap):
    groups = [], []
    for pair in pairs:
        width = pair.input.sizes["X"]
        block = max(gap, round(width * share))
        if width < block + 2 * gap:
            raise ValueError(
                f"{pair.input.name} has {width} voxels along X: too few to keep {block} of them "
                f"for validation, with a gap of one patch ({gap}). Use a smaller patch, give "
                f"`regions`, or `validation_split: 0`."
            )
        for group, limits in zip(groups, ((0, width - block - gap), (width - block, width))):
            group.append(pair.crop({"X": limits}))
    return groups


def _open_images(data) -> Iterator[tuple[Image, Image, str]]:
    """Yield input, target and split of the files that `data` names."""
    keys = [key for key in OPENERS if data.get(key)]
    if len(keys) != 1 or (keys == ["inputs"] and not data.get("targets")):
        raise ValueError(
            f"`data` must name its files in one way: `csv`, `npz`, `wells`, or `inputs` with "
            f"`targets`. Received: {quote(keys) if keys else 'none of them'}."
        )
    extra = [key for key in WELL_KEYS if data.get(key)]
    if extra and keys != ["wells"]:
        raise ValueError(
            f"{', '.join(f'`{key}`' for key in extra)} are of the in-silico labeling data "
            f"(`wells`): leave them out, or choose channels with `target_channels`. Received: "
            f"{keys[0]!r}."
        )
    return OPENERS[keys[0]](data, Path(data.get("root", ".")))


def _open_npz(data, root):
    for source in find(root / data["npz"]):
        for input, target in readers.read_npz(source.path):
            yield input, target, ""


def _open_wells(data, root):
    labels = data.get("labels") or file_names.LABELS
    for well in wells.find_wells(root / data["wells"], data.get("conditions"), data.get("split")):
        # The published training part has no validation part of its own.
        yield well.input(), well.target(labels), "test" if well.split == "test" else ""


def _open_files(data, root):
    def open_image(path, axes, channel):
        return readers.read(path, axes).select_channels(None if channel is None else [channel])

    if data.get("csv"):
        rows = read_pairs_csv(root / data["csv"], root)
    else:
        paths = (str(root / data[key]) for key in ("inputs", "targets"))
        rows = [PairPaths(*pair, "") for pair in match_pairs(*paths, data.get("pair_by", "name"))]
    axes = data.get("axes")
    for row in rows:
        input = open_image(row.input, axes, row.input_channel)
        target = open_image(row.target, data.get("target_axes", axes), row.target_channel)
        yield input, target, row.split


OPENERS = {"csv": _open_files, "npz": _open_npz, "wells": _open_wells, "inputs": _open_files}
