"""The label-free data set of the Allen Institute for Cell Science, as it lies on disk.

A folder per structure holds `train.csv` and `test.csv` with the columns `path_czi`,
`channel_signal` and `channel_target`; paths are relative to the folder above, and those of
DNA point into the folders of other structures. `structures.json` says, per structure, by
which factors the release resized volumes, the voxels they then had (micrometers, z from the
cubes of 0.29 um that the factors lead to) and the channels its tables name.

Reference:
    Ounkomol et al. (2018), Label-free prediction of three-dimensional fluorescence images,
    Nat. Methods 15, 917-920. https://doi.org/10.1038/s41592-018-0111-2
    Factors, numbers of rows and cropping: divelab/GVTNets @ 66e1007.
"""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gvtnets_tf.atomic_files import atomic_write
from gvtnets_tf.checks import check_choice
from gvtnets_tf.data import pairing
from gvtnets_tf.data.synthetic import cells
from gvtnets_tf.images import readers, resampling, writers
from gvtnets_tf.images.normalization import Normalizer

COLUMNS = ("path_czi", "channel_signal", "channel_target")
VOLUMES = {"train": 30, "validation": 0, "test": 20}  # rows, as published
CUBE = 0.29  # micrometers along z, y and x after resizing
MOST = 9_732_096  # voxels of a test volume, as published
MULTIPLE = 16  # of which its sizes are
MOST_SIMULATED = 10_000  # volumes of one seed
TOLERANCE = 0.01  # within which a voxel size is the published one


@dataclass(frozen=True)
class Structure:
    """What the release says of a structure.

    Attributes:
        label: str. The protein and where it is.
        resize: three floats. Factors of the sizes along z, y and x.
        voxel_size: mapping from axis letter to micrometers, before resizing.
        channels: sequence of (signal, target), counted from 0; which of them, or what
            else, a volume has stands in its row.
    """

    label: str
    resize: tuple
    voxel_size: Mapping
    channels: tuple


STRUCTURES = {
    name: Structure(**values)
    for name, values in json.loads(Path(__file__).with_name("structures.json").read_text()).items()
}


@dataclass(frozen=True)
class Table:
    """The volumes of a structure that were chosen, each of them opened and found right.

    Attributes:
        rows: list of (path, signal, target, part): relative to the root of the data set,
            channels by their numbers.
        resize: three floats, by which all of them are to be resized, see `factors`.
    """

    rows: list
    resize: tuple

    def write(self, path, force=False):
        """Write it as a table of pairs, for `pairs.from_csv` and recipes with that root.

        Raises:
            FileExistsError: if `path` exists and `force` is `False`.
        """
        _write(path, [(*COLUMNS, "split"), *self.rows], force)


def table(name, root, volumes=VOLUMES, *, channels=None, resize=None):
    """Choose the volumes of a structure, and look at each of them.

    The first rows of `train.csv` are those to train on, the next ones those to choose the
    best weights by; the first rows of `test.csv` are to report on. Where a table has fewer
    rows for training or report than asked for, all of them are taken.

    Args:
        name: one of the folders in `root`.
        root: folder of the data set.
        volumes: mapping with `train`, `validation` and `test`, how many of each.
        channels: `(signal, target)` by index or name, in place of what the rows say.
        resize: three floats, in place of those that follow from the voxel size.

    Returns:
        `Table`.

    Raises:
        FileNotFoundError: naming the table, or the row whose file is missing.
        ValueError: naming the row, if a channel is missing, a volume is a time series, or
            its voxel size is zero, absent or not that of the others; if a table is empty.
    """
    found, rows = {}, []
    for where, row, part in _chosen(Path(root) / name, volumes):
        try:
            image = _open(Path(root) / row["path_czi"])
            asked = channels or (row["channel_signal"], row["channel_target"])
            signal, target = (_index(image, channel, name) for channel in asked)
            found[tuple(resize or factors(image, name))] = image.name
        except (ValueError, FileNotFoundError) as error:
            missing = isinstance(error, FileNotFoundError)
            kind = FileNotFoundError if missing else ValueError
            raise kind(f"{where}: {error}") from error
        rows.append((row["path_czi"], signal, target, part))
    if len(found) > 1:
        told = ", ".join(f"{image} by {factor}" for factor, image in found.items())
        raise ValueError(
            f"The volumes of {name} have different voxel sizes, and would be resized by different "
            f"factors: {told}. Give one with `resize` (--resize)."
        )
    return Table(rows, next(iter(found)))


def factors(image, name):
    """By how much a volume is resized: to cubes of 0.29 um, by its own voxel size.

    Args:
        image: `Image` with its voxel size.
        name: one of `STRUCTURES`; within 1 % of its voxel size the published factors are
            taken, so that shapes are the published ones.

    Returns:
        Three floats, along z, y and x.

    Raises:
        ValueError: for an unknown structure, with the nearest one, and for a voxel size that
            is zero or absent.
    """
    known = STRUCTURES[check_choice("structure", name, STRUCTURES)]
    if unknown := [axis for axis in "ZYX" if not image.voxel_size.get(axis)]:
        raise ValueError(
            f"{image.name} has no voxel size along {', '.join(unknown)}, or one of zero: put it "
            f"right in the file, or say by how much to resize with `resize`, as published "
            f"--resize {' '.join(f'{f:g}' for f in known.resize)}."
        )
    sizes = [(image.voxel_size[axis], known.voxel_size[axis]) for axis in "ZYX"]
    if all(math.isclose(own, published, rel_tol=TOLERANCE) for own, published in sizes):
        return tuple(known.resize)
    return tuple(own / CUBE for own, _ in sizes)


def prepare(row, resize, most=None):
    """Read the two images of a row, as the networks of the papers see them.

    Each is z-scored as a whole (ddof 0), resized by cubic splines (`resample.resize`), and, where
    `most` is given, cropped as the test volumes were.

    Args:
        row: `pairs.Row`.
        resize: three floats, for z, y and x.
        most: int. Voxels of a test volume at most, see `published_shape`; `None` keeps all.

    Returns:
        Input and target, `Image`s `ZYX` of float32 without units.

    Raises:
        ValueError: naming the image, if it is constant, not finite, or too thin to be cropped.
    """
    sides = ((row.input, row.input_channel), (row.target, row.target_channel))
    return tuple(_prepared(_open(path), channel, resize, most) for path, channel in sides)


def published_shape(shape, most=MOST):
    """The shape that a test volume was cropped to.

    Its sizes are made multiples of 16; y and x then shrink by 16 in turn, y first, until no
    more than `most` voxels are left.

    Args:
        shape: `(z, y, x)` in voxels.
        most: int.

    Raises:
        ValueError: if a size is below 16, or so few voxels cannot be reached.
    """
    sizes, axis = [n // MULTIPLE * MULTIPLE for n in shape], 1
    while math.prod(sizes) > most:
        sizes[axis] -= MULTIPLE
        axis = 3 - axis
    if not all(sizes):
        raise ValueError(
            f"a test volume is cropped to multiples of {MULTIPLE}, the divisor of `fnet`, and to "
            f"{most} voxels: it must be thicker, or `most` larger. Received: shape {tuple(shape)}."
        )
    return tuple(sizes)


def recipe_for(name, preset, root, csv, resize=None, **changes):
    """The recipe of a structure, whose training numbers are those of the preset.

    Args:
        name: one of `STRUCTURES`.
        preset: `"fnet"`, `"label_free"` or another preset.
        root: folder of the data set.
        csv: table of pairs that `Table.write` wrote.
        resize: three floats, those of the table; the published ones by default.
        **changes: keys of the recipe to change, e.g. `steps=1000`.

    Returns:
        Mapping for `Recipe.parse`, or for YAML.

    Raises:
        ValueError: for an unknown structure, with the nearest one.
    """
    known = STRUCTURES[check_choice("structure", name, STRUCTURES)]
    data = {
        "root": str(Path(root).resolve()),
        "csv": str(Path(csv).resolve()),
        "resize": list(resize or known.resize),
    }
    # As published nothing is kept for choosing weights; rows of the split `validation` are used.
    return {"preset": preset, "data": data, "validation_split": 0, **changes}


def simulated(root, volumes, shape, seed=0):
    """Write a data set of simulated cells in this layout; files that are there stay.

    Every volume has transmitted light in channel 0 and one structure in each of the others.

    Args:
        root: folder to make, or to go on with.
        volumes: mapping with `train`, `validation` and `test`, how many of each.
        shape: `(z, y, x)` in voxels, see `simulate.pair`.
        seed: int. No two volumes, and no two seeds, share a specimen.

    Returns:
        `root`; its structures are those of `simulate`.
    """
    root, names = Path(root), cells.STRUCTURES
    last = volumes["train"] + volumes["validation"]
    paths = [f"cells/{i:03d}.tif" for i in range(last + volumes["test"])]
    for i, path in enumerate(paths):
        if (root / path).exists():
            continue
        how = {"shape": shape, "seed": MOST_SIMULATED * seed + i}
        made = [cells.pair("label_free", structure=name, **how) for name in names]
        channels = [made[0][0].array, *(target.array for _, target in made)]
        image = replace(
            made[0][0], array=np.stack(channels), axes="CZYX", channel_names=("light", *names)
        )
        writers.write(root / path, image)
    for channel, name in enumerate(names, 1):
        for file, chosen in (("train.csv", paths[:last]), ("test.csv", paths[last:])):
            _write(root / name / file, [COLUMNS, *([path, 0, channel] for path in chosen)])
    return root


def _chosen(folder, volumes):
    """Yield where it stands, the row and its part, of all rows that are asked for."""
    tables = {file: _rows(folder / file) for file in ("train.csv", "test.csv")}
    train, select, report = (volumes[part] for part in pairing.SPLITS)
    if select and len(tables["train.csv"]) < train + select:
        raise ValueError(
            f"{folder / 'train.csv'} has {len(tables['train.csv'])} rows: too few to train on "
            f"{train} and to keep {select} more for choosing the best weights."
        )
    asked = {
        "train.csv": ["train"] * train + ["validation"] * select,
        "test.csv": ["test"] * report,
    }
    for file, parts in asked.items():
        for i, (row, part) in enumerate(zip(tables[file], parts), 1):
            yield f"{folder / file}, row {i}", row, part


def _rows(path):
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no table {path}: the data set has a folder per structure, with train.csv "
            f"and test.csv."
        )
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    for i, row in enumerate(rows, 1):
        if empty := [column for column in COLUMNS if not row.get(column)]:
            raise ValueError(f"{path}, row {i} has nothing under {', '.join(empty)}.")
    if not rows:
        raise ValueError(f"{path} has no rows.")
    return rows


def _write(path, rows, force=True):
    with atomic_write(path, force) as beside, beside.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def _open(path):
    image = readers.read(path)
    if image.sizes.get("T", 1) > 1:
        raise ValueError(
            f"{path} is a time series of {image.sizes['T']} frames: these are pairs of volumes. "
            f"Save its frames as files of their own."
        )
    return image


def _index(image, channel, name):
    """The number of a channel that is given by its number or its name."""
    text = str(channel).strip()
    channel = int(text) if text.isdecimal() else text
    try:
        image.select_channels([channel])
    except ValueError as error:
        published = getattr(STRUCTURES.get(name), "channels", ())
        hint = " or ".join(f"{signal} and {target}" for signal, target in published)
        hint = f" The published tables say {hint} (signal and target)." if hint else ""
        raise ValueError(f"{error}{hint}") from error
    return channel if isinstance(channel, int) else image.channel_names.index(channel)


def _prepared(image, channel, resize, most):
    if channel is not None:
        image = image.select_channels([channel])
    pixels = image.numpy("ZYX")[..., None]
    pixels = Normalizer("zscore").measure(pixels, image.name).apply(pixels)[..., 0]
    size = {a: v for a, v in image.voxel_size.items() if a in "ZYX"}
    image = resampling.resize(replace(image, array=pixels, axes="ZYX", voxel_size=size), resize)
    return image if most is None else _cropped(image, most)


def _cropped(image, most):
    try:
        shape = published_shape(image.shape, most)
    except ValueError as error:
        raise ValueError(f"{image.name}: {error}") from error
    starts = [(n - m) // 2 for n, m in zip(image.shape, shape)]
    return image.crop({a: (s, s + m) for a, s, m in zip("ZYX", starts, shape)})
