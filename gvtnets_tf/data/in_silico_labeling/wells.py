"""The in-silico labeling data set: wells of transmitted-light planes and fluorescent labels.

Christiansen et al. (2018), In silico labeling: predicting fluorescent labels in unlabeled
images, Cell 173, 792-803. https://doi.org/10.1016/j.cell.2018.03.040. It is the data set of
the Global Pixel Transformers as well.
"""

import itertools
import struct
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data.in_silico_labeling import file_names
from gvtnets_tf.data.in_silico_labeling.file_names import LABELS, NEURITE, find_split
from gvtnets_tf.images.formats import png
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.lazy_arrays import LazyArray, PagedArray

COLORS = {2: "RGB", 3: "palette", 4: "gray and alpha", 6: "RGBA"}
DTYPES = {8: np.dtype("uint8"), 16: np.dtype("uint16")}


@dataclass(frozen=True)
class Well:
    """One well: a stack of planes, and the labels that it was stained with.

    Attributes:
        name: str. Unique in the data set, usable as the stem of a file.
        condition: str. The paper's letter, `"A"` to `"E"`.
        split: str. `"train"` or `"test"` by the folder it lies in, or `None`.
        shape: tuple of int. `(y, x)` in pixels, of planes and labels.
        dtype, label_dtype: uint8 or uint16; `None` where there are no labels.
        planes: tuple of `Path`, z = 0 first.
        labels: mapping from label to `Path`, possibly empty.

    Examples:
        >>> well = Well("A4", "B", "test", (64, 64), np.dtype("uint16"), (Path("z0.png"),))
        >>> well.input().sizes  # nothing is read yet
        {'C': 1, 'Y': 64, 'X': 64}
    """

    name: str
    condition: str
    split: str | None
    shape: tuple
    dtype: np.dtype
    planes: tuple
    labels: Mapping = field(default_factory=dict)
    label_dtype: np.dtype | None = None

    def input(self) -> Image:
        """Open the planes as they were stored, `CYX`, channels `z0`, ...; decoded when read."""
        names = tuple(f"z{z}" for z in range(len(self.planes)))
        return self._image(lambda number: png.read(self.planes[number]).numpy(), names, self.dtype)

    def target(self, labels: str | Sequence[str] = LABELS) -> Image:
        """Open the labels as they were stored.

        Args:
            labels: names out of `LABELS`, or `NEURITE`, which is computed as the mean of
                MAP2 and NFH where it has no file.

        Returns:
            `Image` with axes `CYX` and one channel per label, in the order of `labels`, decoded
            when it is read, in the dtype of the files; float32 and NaN where it lacks a label.

        Raises:
            ValueError: for an unknown label, with the nearest one, or a well without labels.
        """
        labels = [labels] if isinstance(labels, str) else list(labels)
        labels = [check_choice("label", label.upper(), (*LABELS, NEURITE)) for label in labels]
        if not labels:
            raise ValueError(f"Name at least one label of {', '.join(LABELS)}.")
        if not self.labels:
            raise ValueError(
                f"The well {self.name} has no label, only planes ({self.planes[0]} and others). "
                f"Files called PREDICTED and masks are not taken as labels: add the originals, "
                f"or leave this well out."
            )
        dtype = self.label_dtype if set(labels) <= set(self.labels) else np.float32
        return self._image(lambda number: self._read_label(labels[number]), tuple(labels), dtype)

    def _image(self, read, names, dtype):
        pages = PagedArray(read, (len(names), *self.shape), self.shape, dtype)
        return Image(LazyArray(self.name, pages, "a well"), "CYX", {}, names, self.name)

    def _read_label(self, label):
        if label in self.labels:
            return png.read(self.labels[label]).numpy()
        if label == NEURITE and set(file_names.NEURITE_PARTS) <= set(self.labels):
            parts = [png.read(self.labels[part]).numpy() for part in file_names.NEURITE_PARTS]
            return np.mean(parts, axis=0, dtype=np.float32)
        return np.full(self.shape, np.nan, np.float32)


def find_wells(
    folder: str | Path, conditions: str | Sequence[str] | None = None, split: str | None = None,
    planes: int | None = None,
) -> list[Well]:  # fmt: skip
    """Find the wells of a data set and check that each is whole; no pixel is decoded.

    Args:
        folder: searched with all folders in it, mostly `<lab>/<condition>/<file>.png` below
            `train` and `test`. Predictions, masks and files of other names are passed over.
        conditions: letter (`"A"` to `"E"`) or name (`"kevan_0_8"`) or a list; `None` for all.
        split: `"train"` or `"test"` keeps what lies in a folder of that name (or of the
            bucket's, `train_single_channel_images`); `None` for all.
        planes: int. Planes of each well; `None` asks only that all have equally many.

    Returns:
        List of `Well`, by name.

    Raises:
        FileNotFoundError: if the folder is not there or has no file of the data set in it.
        ValueError: naming a file that is no gray PNG or has an unknown name, or a well that is
            not whole, or of unequal images; or if nothing is left to read.

    Examples:
        >>> find_wells("isl", conditions="scott_1")
        Traceback (most recent call last):
            ...
        ValueError: `condition` cannot be 'scott_1'. Did you mean 'scott_1_0'?
    """
    check_choice("split", split, (*file_names.SPLITS, None))
    if planes is not None:
        check_at_least("planes", planes, 1)
    asked = {name.lower() for name in file_names.list_folders(conditions)}
    groups, others = defaultdict(list), set()
    for name, path in _list_originals(Path(folder)):
        place = find_split(path, Path(folder))
        if split in (None, place) and f"{name.lab}/{name.condition}" in asked:
            groups[name.series].append((name, path))
        else:
            others.add(f"{name.letter} ({name.condition}, {place or 'neither train nor test'})")
    if not groups:
        raise ValueError(
            f"{folder} has nothing of conditions={conditions!r}, split={split!r}. Its conditions: "
            f"{', '.join(sorted(others))}."
        )
    wells = [_make_well(series, groups[series], Path(folder)) for series in sorted(groups)]
    _check_counts(wells, planes)
    return wells


def _list_originals(folder):
    """List the names and paths of planes and labels, without predictions and masks."""
    if not folder.is_dir():
        raise FileNotFoundError(f"No such folder: {folder}.")
    paths = [path for path in sorted(folder.rglob("*")) if file_names.is_named(path)]
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no image of the in-silico labeling data set: no .png in it has a "
            f"name like lab-...,condition-...,channel-....png."
        )
    files = [path for path in paths if not file_names.is_predicted(path)]
    originals = [(name, path) for path in files if not (name := file_names.parse_name(path)).mask]
    if not originals:
        raise ValueError(
            f"{folder} holds nothing but predictions (files called PREDICTED) and masks, which "
            f"are neither planes nor labels: {len(paths)} files, {paths[0]} the first."
        )
    return originals


def _make_well(series, files, folder):
    """Make a well of its list of `(name, path)`."""
    planes, labels = {}, {}
    for name, path in files:
        key, group = (name.channel, labels) if name.z is None else (name.z, planes)
        if key in group:
            kind = key if name.z is None else f"z_depth {key}"
            raise ValueError(
                f"The well {series} has two files for {kind}: {group[key]} and {path}. Keep one."
            )
        group[key] = path
    gaps = (z for z in range(max(planes, default=0) + 1) if z not in planes)
    if missing := list(itertools.islice(gaps, 20)):  # a number may be a slip, and huge
        raise ValueError(
            f"The well {series} lacks z_depth {', '.join(map(str, missing))}, which should lie "
            f"beside {files[0][1]}: planes are numbered from 0 without a gap. Add the missing, or "
            f"remove the well."
        )
    planes = tuple(planes[z] for z in sorted(planes))
    # In the order of `LABELS`, not of the files.
    labels = {label: labels[label] for label in (*LABELS, NEURITE) if label in labels}
    shape, dtype, label_dtype = _check_headers(planes, tuple(labels.values()))
    letter, split = files[0][0].letter, find_split(files[0][1], folder)
    return Well(series, letter, split, shape, dtype, planes, labels, label_dtype)


def _check_headers(planes, labels):
    """Return the size of all images of a well, the type of its planes and of its labels."""
    headers = {path: _read_header(path) for path in (*planes, *labels)}
    shape = headers[planes[0]][0]
    for path, (size, dtype) in headers.items():
        first = planes[0] if path in planes else labels[0]
        if size != shape:
            raise ValueError(
                f"{path} has {size[1]} x {size[0]} pixels and {planes[0]} has {shape[1]} x "
                f"{shape[0]}: all images of a well must have one size."
            )
        if dtype != headers[first][1]:
            raise ValueError(
                f"{path} has {8 * dtype.itemsize} bits and {first} has "
                f"{8 * headers[first][1].itemsize}: convert one of them, since 8 and 16 bits do "
                f"not mix."
            )
    return shape, headers[planes[0]][1], headers[labels[0]][1] if labels else None


def _check_counts(wells, planes):
    """Refuse a well with another number of planes than asked for, or than the others have."""
    counts = Counter(len(well.planes) for well in wells)
    expected = counts.most_common(1)[0][0] if planes is None else planes
    for well in wells:
        if len(well.planes) != expected:
            who = f"the others have {expected}" if planes is None else f"planes={planes} was asked"
            raise ValueError(
                f"The well {well.name} of condition {well.condition} has {len(well.planes)} planes "
                f"and {who}. Its last is {well.planes[-1]}. Add the missing ones, or choose "
                f"conditions that agree."
            )


def _read_header(path):
    """Read shape and type of a gray PNG from its first 26 bytes."""
    with path.open("rb") as file:
        start = file.read(26)
    if len(start) < 26 or not start.startswith(b"\x89PNG\r\n\x1a\n"):
        raise ValueError(f"{path} is not a PNG, or not a whole one: write or copy it again.")
    width, height, depth, color = struct.unpack(">16xIIBB", start)
    if color in COLORS or depth not in DTYPES:
        raise ValueError(
            f"{path} must be a gray PNG of 8 or 16 bits. Received: "
            f"{COLORS.get(color, 'gray')} of {depth} bits."
        )
    return (height, width), DTYPES[depth]
