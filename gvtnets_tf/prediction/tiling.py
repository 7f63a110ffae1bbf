"""Geometry of tiles: places, weights and padding."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gvtnets_tf.checks import check_at_least, check_choice

# Weight that a tile has in each of its voxels, along one axis, before the tiles that share a voxel
# are brought to a sum of one: triangles then are a linear cross-fade (alpha blending).
WEIGHTS = {
    "average": np.ones,
    "ramp": lambda size: np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)),
}
BLENDS = ("crop", *WEIGHTS)


@dataclass(frozen=True)
class Tile:
    """One tile of a larger image, in voxels. No pixels live here.

     read                         `read`   slices of the image fed to the model
    +-----------------+           `write`  slices of the image it answers for
    |  margin         |           `keep`   the same region, inside the tile
    |   +---------+   |
    |   |  write  |   |
    |   +---------+   |
    +-----------------+
    """

    read: tuple[slice, ...]
    write: tuple[slice, ...]

    @property
    def keep(self):
        return self.shift([read.start for read in self.read]).write

    def shift(self, origin: Sequence) -> "Tile":
        """Return the tile counted from another origin."""
        move = lambda slices: tuple(slice(s.start - n, s.stop - n) for s, n in zip(slices, origin))
        return Tile(move(self.read), move(self.write))

    def along(self, axes: Sequence) -> "Tile":
        """Return the tile on some of its axes, given by their indices."""
        return Tile(tuple(self.read[i] for i in axes), tuple(self.write[i] for i in axes))


def split_axis(length: int, size: int, margin: int, align: int, letter: str) -> list:
    """Cut one axis into `(read, write)` slices; the writes meet in the middle of an overlap.

    The last tile ends with the axis; the others begin at multiples of `align`, so that a network
    that strides sees the same phase in each. At least `margin` voxels of each inner side are
    dropped.
    """
    size = min(size, length)
    step = (size - 2 * margin) // align * align
    if step < 1 and size < length:
        least = math.ceil(2 * margin / align + 1) * align
        raise ValueError(
            f"A tile of {size} voxels along {letter} has nothing left between two margins of "
            f"{margin} (tiles begin at multiples of {align}): use a tile of at least {least}, or "
            f"less overlap."
        )
    starts = [*range(0, length - size, max(step, 1)), length - size]
    seams = [(left + size + right) // 2 for left, right in itertools.pairwise(starts)]
    writes = itertools.pairwise([0, *seams, length])
    return [(slice(start, start + size), slice(*write)) for start, write in zip(starts, writes)]


def split(
    shape: Sequence, size: Sequence, margin: Sequence, align: Sequence | None = None
) -> list[Tile]:
    """Cut a grid of any rank into tiles of equal size, in the order in which it lies in memory.

    Arguments are those of `split_axis`, one per axis; the last are Z, Y and X in messages.
    """
    align = align or (1,) * len(shape)
    letters = [*(f"axis {i}" for i in range(len(shape) - 3)), *"ZYX"[-len(shape) :]]
    pairs = map(split_axis, shape, size, margin, align, letters)
    return [Tile(*zip(*chosen)) for chosen in itertools.product(*pairs)]


def blend_weights(tiles: list[Tile], blend: str) -> list[tuple]:
    """Weight the voxels of tiles that overlap, so that all tiles sum to one in each voxel.

    With `"average"` every tile counts the same (as published, Wang et al. 2021), with `"ramp"` a
    tile fades towards its sides. A tile has a 1-D array per axis, for `outer_weight`.
    """
    shape_of = WEIGHTS[check_choice("blend", blend, WEIGHTS)]
    axes = []
    for reads in zip(*(tile.read for tile in tiles)):
        total = np.zeros(max(read.stop for read in reads))
        # Many tiles of the grid share one place along this axis: count it once.
        own = {read.start: (read, shape_of(read.stop - read.start)) for read in reads}
        for read, weights in own.values():
            total[read] += weights
        axes.append({start: weights / total[read] for start, (read, weights) in own.items()})
    return [tuple(axis[r.start] for axis, r in zip(axes, tile.read)) for tile in tiles]


def outer_weight(lines: tuple) -> np.ndarray:
    """Multiply out an entry of `blend_weights` to float32 over the `read` region of its tile."""
    return functools.reduce(np.multiply.outer, [weights.astype(np.float32) for weights in lines])


@dataclass(frozen=True)
class Plan:
    """Where the voxels of one frame go. No pixels live here; `plan_tiles` makes one."""

    grid: str  # axes: the one that a network of planes is repeated along, then the network's own
    rank: int  # how many of them are the network's own
    shape: tuple  # voxels of the frame
    padded: tuple  # the same after padding
    divisor: tuple  # a tile is a multiple of it
    size: tuple  # voxels of a tile
    margin: tuple  # of each of its inner sides
    output_indices: tuple  # axes of the grid that the result has

    @functools.cached_property
    def places(self) -> list[Tile]:
        """Tiles in the order in which the grid lies in memory."""
        return split(self.padded, self.size, self.margin, self.divisor)

    @property
    def tile(self) -> tuple:
        """Voxels that the network reads at a time, along its own axes."""
        return self.size[-self.rank :]

    @property
    def overlap(self) -> tuple:
        """Voxels that neighboring tiles share at least, along the network's own axes."""
        return tuple(2 * m for m in self.margin[-self.rank :])

    @property
    def whole(self) -> bool:
        """One tile holds the frame."""
        return self.tile == self.padded[-self.rank :]

    def select_output(self, values: Sequence) -> tuple:
        """Return those values, one per axis of the grid, that belong to axes of the result."""
        return tuple(values[i] for i in self.output_indices)

    def smaller_tile(self, voxels: float) -> tuple | None:
        """Halve the longest axis of a tile until it holds at most `voxels`, or return `None`."""
        size, align = list(self.tile), self.divisor[-self.rank :]
        first = len(self.grid) - self.rank
        kept = [i - first for i in self.output_indices if i >= first]  # others must be whole
        while math.prod(size) > voxels:
            # A tile of twice `align` is the least of which the default margin leaves something.
            free = [i for i in kept if size[i] > 2 * align[i]]
            if not free:
                return None
            longest = max(free, key=lambda i: size[i])
            size[longest] = max(math.ceil(size[longest] / 2 / align[longest]), 2) * align[longest]
        return tuple(size)


def plan_tiles(
    sizes: Mapping, axes: str, output_axes: str, divisor: Sequence, *,
    tile: int | Sequence | None = None, overlap: int | Sequence | None = None,
) -> Plan:  # fmt: skip
    """Lay out one frame for a network that maps its spatial `axes` to `output_axes`.

    The frame has `sizes` by axis letter; the network is repeated along one of Z, Y, X that is not
    in `axes`. `divisor` has one int per letter of `axes`; `tile` and `overlap` are as in
    `PredictionOptions`.
    """
    repeated = "".join(a for a in sizes if a in "ZYX" and a not in axes)
    grid, ones = repeated + axes, (1,) * len(repeated)
    shape = tuple(sizes[letter] for letter in grid)
    padded = round_up(shape, ones + tuple(divisor))
    length = padded[len(ones) :]
    if tile is None and overlap is not None:
        raise ValueError(f"`overlap` is of tiles: pass `tile` too. Received: {overlap}.")
    size = length if tile is None else _size(tile, axes, output_axes, length, divisor)
    if overlap is None:
        # At least the divisor, which drops the voxels that the coarsest level saw beside a border,
        # and at most a quarter, so that half of the tile answers.
        margin = [min(max(d, s // 8), s // 4) for s, d in zip(size, divisor)]
    else:
        margin = [-(-o // 2) for o in check_per_axis("overlap", overlap, axes, least=0)]
    # One tile along an axis has no neighbors to share anything with.
    margin = tuple(m if s < n else 0 for m, s, n in zip(margin, size, length))
    output = tuple(i for i, letter in enumerate(grid) if letter in repeated + output_axes)
    zeros = (0,) * len(ones)
    return Plan(
        grid, len(axes), shape, padded, ones + tuple(divisor), ones + size, zeros + margin, output
    )


def _size(tile, axes, output_axes, length, divisor):
    if isinstance(tile, (int, np.integer)):
        tile = [tile if letter in output_axes else n for letter, n in zip(axes, length)]
    tile = check_per_axis("tile", tile, axes)
    for letter, n, t in zip(axes, length, tile):
        if letter not in output_axes and t < n:
            raise ValueError(
                f"The model projects along {letter}, so a tile must hold all {n} voxels of it. "
                f"Received: tile={tile}."
            )
    return tuple(map(min, round_up(tile, divisor), length))


def check_per_axis(name: str, value: int | Sequence, axes: str, least: int = 1) -> tuple:
    """Return one int per axis from one number for all, or from one for each; else raise."""
    values = (value,) * len(axes) if isinstance(value, (int, np.integer)) else tuple(value)
    if len(values) != len(axes):
        raise ValueError(
            f"`{name}` is one number, or one for each axis of {axes}. Received: {value}."
        )
    return tuple(int(check_at_least(name, v, least)) for v in values)


def round_up(shape: Sequence, divisor: Sequence) -> tuple:
    """Round each size up to a multiple of its divisor."""
    return tuple(size + (-size) % factor for size, factor in zip(shape, divisor))


def pad_amounts(shape: Sequence, divisor: Sequence) -> list:
    """Count the voxels to add `(before, after)` each axis to make it a multiple of its divisor.

    Half of them go before, and the odd one after, as published (Wang et al. 2021).
    """
    for size, factor in zip(shape, divisor, strict=True):
        check_at_least("size of the image", size, 1)
        check_at_least("divisor", factor, 1)
    missing = [(-size) % factor for size, factor in zip(shape, divisor)]
    return [(p // 2, p - p // 2) for p in missing]


def pad(array: np.ndarray, divisor: Sequence) -> np.ndarray:
    """Pad the axes of the grid of an array `(*grid, ...)` by reflection to multiples of `divisor`.

    An axis shorter than its padding is reflected again and again; a single plane is repeated.
    """
    amounts = pad_amounts(array.shape[: len(divisor)], divisor)
    if not np.any(amounts):
        return array
    return np.pad(array, amounts + [(0, 0)] * (array.ndim - len(divisor)), mode="reflect")


def crop(array: np.ndarray, shape: Sequence, divisor: Sequence) -> np.ndarray:
    """Crop the padding of `pad` off a grid that had this shape before; the result is a view."""
    amounts = pad_amounts(shape, divisor)
    return array[tuple(slice(before, before + n) for (before, _), n in zip(amounts, shape))]
