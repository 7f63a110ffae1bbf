"""Read the label-free data set of the Allen Institute for Cell Science as it was published.

A folder per structure holds `train.csv` and `test.csv` with the columns `path_czi`,
`channel_signal` and `channel_target`; paths are relative to the folder above, and those of
DNA point into the folders of other structures. `structures.json` says, per structure, by
which factors the release resized volumes, the voxel size before (micrometers, z from the cubes
of 0.29 um that the factors lead to) and the channels its tables name.

Reference:
    Ounkomol et al. (2018), Label-free prediction of three-dimensional fluorescence images,
    Nat. Methods 15, 917-920. https://doi.org/10.1038/s41592-018-0111-2
    Factors and numbers of rows: divelab/GVTNets @ 66e1007.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gvtnets_tf.atomic_files import check_writable, write_csv
from gvtnets_tf.checks import check_choice, read_csv
from gvtnets_tf.data import pairing
from gvtnets_tf.data.synthetic import cells
from gvtnets_tf.images import writers
from gvtnets_tf.images.image import Image
from gvtnets_tf.studies.label_free_volumes import read_volume

COLUMNS = ("path_czi", "channel_signal", "channel_target")
VOLUMES = {"train": 30, "validation": 0, "test": 20}  # rows, as published
CUBE = 0.29  # micrometers along z, y and x after resizing
MAX_SIMULATED = 10_000  # volumes per seed
TOLERANCE = 0.01  # relative, between a voxel size and the published one


@dataclass(frozen=True)
class Structure:
    """A labeled structure, with the numbers of the release."""

    label: str  # the protein and where it is
    resize: tuple[float, float, float]  # factors of the sizes along z, y and x
    voxel_size: Mapping[str, float]  # micrometers, before resizing
    channels: tuple  # of (signal, target), counted from 0, that its tables name


STRUCTURES = {
    name: Structure(**values)
    for name, values in json.loads(Path(__file__).with_name("structures.json").read_text()).items()
}


@dataclass(frozen=True)
class VolumeTable:
    """The volumes of a structure that were chosen and checked."""

    rows: list  # of (path below the root of the data set, signal, target, split)
    resize: tuple[float, float, float]  # factors of all of them; see `compute_resize`

    def write(self, path: str | Path, force: bool = False) -> None:
        """Write a table of pairs, for `data.pairing` and for recipes with that root."""
        if not force:
            check_writable(path)
        write_csv(path, [dict(zip((*COLUMNS, "split"), row)) for row in self.rows])


def choose_volumes(
    name: str,
    root: str | Path,
    volumes: Mapping[str, int] = VOLUMES,
    *,
    channels: Sequence | None = None,
    resize: Sequence[float] | None = None,
) -> VolumeTable:
    """Choose the volumes of a structure, and check the metadata of each.

    The first rows of `train.csv` are the training split, the next ones the validation split;
    the first rows of `test.csv` are the test split. A table with fewer rows for training or
    test than asked for is used whole.

    Args:
        name: one of the folders in `root`, the folder of the data set.
        volumes: mapping with `train`, `validation` and `test`, how many of each.
        channels: `(signal, target)` by index or name, in place of those of the rows.
        resize: three floats, in place of those that follow from the voxel size.

    Raises:
        FileNotFoundError: naming the table, or the row whose file is missing.
        ValueError: naming the row, if a channel is missing, a volume is a time series, or
            its voxel size is zero, absent or not that of the others; if a table is empty.

    Examples:
        >>> import tempfile
        >>> counts = {"train": 1, "validation": 0, "test": 1}
        >>> root = simulate_data_set(tempfile.mkdtemp(), counts, (4, 16, 16))
        >>> choose_volumes("nuclei", root, counts, resize=(1, 1, 1)).rows
        [('cells/000.tif', 0, 1, 'train'), ('cells/001.tif', 0, 1, 'test')]
    """
    names, rows = {}, []
    for where, row, split in _select_rows(Path(root) / name, volumes):
        try:
            image = read_volume(Path(root) / row["path_czi"])
            pair = channels or (row["channel_signal"], row["channel_target"])
            signal, target = (_channel_index(image, channel, name) for channel in pair)
            names[tuple(resize or compute_resize(image, name))] = image.name
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{where}: {error}") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        rows.append((row["path_czi"], signal, target, split))
    if len(names) > 1:
        factors = ", ".join(f"{image} by {resize}" for resize, image in names.items())
        raise ValueError(
            f"The volumes of {name} have different voxel sizes, and would be resized by different "
            f"factors: {factors}. Give one with `resize` (--resize)."
        )
    return VolumeTable(rows, next(iter(names)))


def compute_resize(image: Image, name: str) -> tuple[float, float, float]:
    """Compute the factors along z, y and x that resize a volume to voxels of 0.29 um.

    Within 1 % of the voxel size of the structure `name` they are the published ones, so that
    shapes are as well.
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


def make_recipe(
    name: str,
    preset: str,
    root: str | Path,
    csv: str | Path,
    resize: Sequence[float] | None = None,
    **changes,
) -> dict:
    """Make the recipe of a structure for `Recipe.parse`, with the training numbers of the preset.

    Args:
        name: one of `STRUCTURES`.
        preset: `"fnet"`, `"label_free"` or another preset.
        root: folder of the data set.
        csv: table of pairs that `VolumeTable.write` wrote.
        resize: three floats, those of the table; the published ones by default.
        **changes: keys of the recipe to change, e.g. `steps=1000`.
    """
    known = STRUCTURES[check_choice("structure", name, STRUCTURES)]
    paths = {"root": str(Path(root).resolve()), "csv": str(Path(csv).resolve())}
    data = {**paths, "resize": list(resize or known.resize)}
    # As published no share is split off; rows of the validation split are used.
    return {"preset": preset, "data": data, "validation_split": 0, **changes}


def simulate_data_set(
    root: str | Path, volumes: Mapping[str, int], shape: Sequence[int], seed: int = 0
) -> Path:
    """Write simulated cells in this layout, keep existing files, and return the folder.

    Every volume has transmitted light in channel 0 and one structure in each of the others.

    Args:
        root: folder to make, or to complete.
        volumes: as of `choose_volumes`.
        shape: `(z, y, x)` in voxels, at least 4 along z.
        seed: int. No two volumes, and no two seeds, share a specimen.

    Examples:
        >>> import tempfile
        >>> counts = {"train": 1, "validation": 0, "test": 1}
        >>> root = simulate_data_set(tempfile.mkdtemp(), counts, (4, 16, 16))
        >>> sorted(path.name for path in (root / "cells").iterdir())
        ['000.tif', '001.tif']
    """
    root, names = Path(root), cells.STRUCTURES
    last = volumes["train"] + volumes["validation"]
    paths = [f"cells/{i:03d}.tif" for i in range(last + volumes["test"])]
    for i, path in enumerate(paths):
        if (root / path).exists():
            continue
        specimen = {"shape": shape, "seed": MAX_SIMULATED * seed + i}
        pairs = [cells.simulate_pair("label_free", structure=name, **specimen) for name in names]
        light, channels = pairs[0][0], [pairs[0][0].array, *(target.array for _, target in pairs)]
        known = {"axes": "CZYX", "channel_names": ("light", *names)}
        writers.write(root / path, replace(light, array=np.stack(channels), **known))
    for channel, name in enumerate(names, 1):
        for file, rows in (("train.csv", paths[:last]), ("test.csv", paths[last:])):
            write_csv(root / name / file, [dict(zip(COLUMNS, (p, 0, channel))) for p in rows])
    return root


def _select_rows(folder, volumes) -> Iterator[tuple[str, dict, str]]:
    """Yield a description of its place, the row and its split, of each row to use."""
    tables = {file: _read_rows(folder / file) for file in ("train.csv", "test.csv")}
    train, validation, test = (volumes[split] for split in pairing.SPLITS)
    if validation and len(tables["train.csv"]) < train + validation:
        raise ValueError(
            f"{folder / 'train.csv'} has {len(tables['train.csv'])} rows: too few to train on "
            f"{train} and to keep {validation} more for choosing the best weights."
        )
    splits = ["train"] * train + ["validation"] * validation, ["test"] * test
    for (file, rows), names in zip(tables.items(), splits):
        for i, (row, split) in enumerate(zip(rows, names), 1):
            yield f"{folder / file}, row {i}", row, split


def _read_rows(path):
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no table {path}: the data set has a folder per structure, with train.csv "
            f"and test.csv."
        )
    _, rows = read_csv(path)
    for i, row in enumerate(rows, 1):
        if empty := [column for column in COLUMNS if not row.get(column)]:
            raise ValueError(f"{path}, row {i} has nothing under {', '.join(empty)}.")
    if not rows:
        raise ValueError(f"{path} has no rows.")
    return rows


def _channel_index(image, channel, name):
    """Return the index of a channel that is given by index or name."""
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
