"""An image of any size through a network: normalised, padded, tiled and brought back."""

import functools
import math
import warnings
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from gvtnets_tf.axes import rearrange
from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data.image import Image
from gvtnets_tf.data.normalize import Affine, Normalizer
from gvtnets_tf.prediction import memory, tiles

BLENDS = ("crop", *tiles.WEIGHTS)
SHARE = 0.8  # of the available memory, what a call may take unasked
VOXEL_TOLERANCE = 0.1


class Predictor:
    """A network and what must be known of it, ready for images.

    Attributes:
        model: callable `(batch, *grid, channels) -> (batch, *grid_out, channels_out)`,
            a Keras model or any other. Read from it where present: `divisor`, what each
            axis of the grid must be a multiple of, and `operators`, the places where it
            looks at the whole image at once.
        card: `Card`.
    """

    def __init__(self, model, card):
        divisor = getattr(model, "divisor", 1)
        self.model, self.card = model, card
        self.divisor = tiles.per_axis("model.divisor", divisor, card.axes)
        self._bytes_per_voxel = card.bytes_per_voxel
        self._held = memory.PROBE  # voxels of the largest call that is known to fit

    def __call__(self, array, axes=None, **options):
        """Predict an array.

        Args:
            array: array in camera counts, or whatever the network was trained on.
            axes: str. One letter of `TCZYX` per axis; by default `card.axes`.
            **options: as in `predict`.

        Returns:
            Float32 array, in the axis order described in `predict`; with `uncertainty`
            a tuple of two.

        Raises:
            ValueError: as `predict`.
        """
        image = Image(np.asarray(array), self.card.axes if axes is None else axes)
        result, _ = self.predict(image, **options)
        return tuple(r.array for r in result) if isinstance(result, tuple) else result.array

    def predict(
        self,
        image,
        *,
        tile=None,
        whole=False,
        overlap=None,
        blend="crop",
        max_memory=None,
        batch=1,
        uncertainty=False,
        progress=False,
        statistics=None,
    ):
        """Predict an image.

        It is normalised by statistics of the whole image (each frame of a time series by
        its own), padded by reflection, predicted whole or in tiles, cropped, and given its
        units by `card.undo`. A network of planes predicts a stack plane by plane, with the
        statistics of the stack. Frames are read one at a time, first all of them to be measured
        (a blank one is named before hours of work), then each to be predicted.

        Args:
            image: `Image`.
            tile: int or one int per letter of `card.axes`. Voxels that the network reads at
                a time, rounded up to its divisor. A projection holds the whole stack.
            whole: bool. Predict whole, without asking whether it fits.
            overlap: int or one int per letter of `card.axes`. Voxels that neighbouring
                tiles share at least. By default twice an eighth of the tile, which is
                rounded up to the divisor and at most a quarter.
            blend: what becomes of shared voxels. `"crop"`: each tile gives up its half;
                `"average"`: the mean of the tiles (as published, with an overlap of 64);
                `"ramp"`: a linear cross-fade.
            max_memory: bytes, or str such as `"4GiB"`, that a call of the network may take.
                By default 0.8 of what is available, unless `tile` or `whole` is given.
            batch: int. Tiles, or planes, predicted at a time.
            uncertainty: bool. Return the scale of a probabilistic network as well.
            progress: bool. Show a bar on standard error.
            statistics: `Affine` of the input, measured elsewhere.

        Returns:
            `(result, info)`. `result` is an `Image` (float32) with the axes of the input;
            a projection drops Z. Axis C stays where the input had it. Where it had none, a
            result with several channels gets one in front of its spatial axes, as in
            `"TCZYX"`. With `uncertainty`, `result` is a tuple of two such images, location
            and scale. `info` says how it was done, in values that JSON can hold: `mode`
            (`"whole"` or `"tiles"`), `tile`, `overlap`, `blend`, `undo`, `statistics` (offset
            and gain of the input, one entry per frame) and, where the result depends on the
            tiles, `note`.

        Raises:
            ValueError: for axes or channels that do not fit the network, NaN, a constant
                image, an image that does not fit the memory, a tile that leaves nothing
                between its halos, or options that exclude each other.

        Reference:
            Order of the steps, padding and average as in Wang, Xie & Ji (2021).
            https://doi.org/10.1038/s42256-020-00283-x
        """
        check_choice("blend", blend, BLENDS)
        check_at_least("batch", batch, 1)
        self._check(image, uncertainty, statistics)
        plan = self._plan(image, tile, whole, overlap)
        batch = min(batch, len(plan.places))
        if max_memory is not None or (tile is None and not whole):
            self._check_fits(image, plan, batch, max_memory)

        frames, order = image.sizes.get("T", 1), plan.grid + "C"
        used = [self._measure(_read(image, t, order), image, t, statistics) for t in range(frames)]
        with tqdm(total=frames * len(plan.places), unit="tile", disable=not progress) as bar:
            for t in range(frames):
                y = self._predict_frame(
                    _read(image, t, order),
                    used[t],
                    plan,
                    blend=blend,
                    batch=batch,
                    uncertainty=uncertainty,
                    bar=bar,
                )
                if t == 0:
                    result = np.empty((frames, *y.shape), np.float32) if frames > 1 else y[None]
                result[t] = y
        self._held = max(self._held, math.prod(plan.tile) * batch)
        return self._images(result, image, plan, uncertainty), self._info(plan, blend, used)

    def bytes_per_voxel(self, channels=1):
        """Peak memory of a call per voxel of its input: the card's, or measured once."""
        if self._bytes_per_voxel is None:
            self._bytes_per_voxel = memory.bytes_per_voxel(
                self._run, self.divisor, channels, len(self.card.axes)
            )
        return self._bytes_per_voxel

    @functools.cached_property
    def _run(self):
        return memory.runner(self.model)

    def _check(self, image, uncertainty, statistics):
        name = image.name or "the image"
        missing = [letter for letter in self.card.axes if letter not in image.axes]
        if missing:
            raise ValueError(
                f"The model reads {self.card.axes} images, and {name} lacks axis "
                f"{' and '.join(missing)}: name its axes, or use another model. "
                f"Received: axes={image.axes!r}, shape={image.shape}."
            )
        if 0 in image.shape:
            raise ValueError(f"{name} is empty. Received: shape={image.shape}.")
        channels, expected = image.sizes.get("C", 1), _channels(self.model, self.card)
        if expected not in (None, channels):
            named = f" ({', '.join(self.card.input_channels)})" if self.card.input_channels else ""
            raise ValueError(
                f"The model reads {expected} channels{named}, and {name} has {channels}: select "
                f"its channels. Received: axes={image.axes!r}, shape={image.shape}."
            )
        if statistics is not None and np.size(statistics.gain) not in (1, channels):
            raise ValueError(
                f"`statistics` are for {np.size(statistics.gain)} channels, and {name} has "
                f"{channels}."
            )
        if uncertainty and not self.card.probabilistic:
            raise ValueError(
                "The model predicts no scale: `uncertainty` needs one that was trained with a "
                "scale head (loss 'laplace' or 'gaussian')."
            )
        if self.card.output_channels:
            known = channels if statistics is None else np.size(statistics.gain)
            self._check_units(known, len(self.card.output_channels))
        _check_voxel_size(image, self.card.voxel_size, name)

    def _check_units(self, known, channels):
        """Refuse to give so many channels of a result the units of the known ones."""
        if self.card.undo == "stored":
            known = len(self.card.target.gain)
        if self.card.undo != "none" and known not in (1, channels):
            raise ValueError(
                f"The result has {channels} channels and cannot take the units of {known} "
                f"(`undo` is {self.card.undo!r}): use 'none', or 'stored' with one offset and gain "
                f"per channel of the result."
            )

    def _plan(self, image, tile, whole, overlap):
        if whole and tile is not None:
            raise ValueError(f"Pass `whole` or `tile`, not both. Received: tile={tile}.")
        axes, output_axes = self.card.axes, self.card.output_axes
        return tiles.plan(image.sizes, axes, output_axes, self.divisor, tile=tile, overlap=overlap)

    def _check_fits(self, image, plan, batch, max_memory):
        voxels = math.prod(plan.tile) * batch
        if max_memory is None:
            if voxels <= self._held:
                return
            limit = SHARE * memory.available()
        else:
            limit = memory.parse_size(max_memory)
        each = self.bytes_per_voxel(image.sizes.get("C", 1))
        if each * voxels <= limit:
            return
        advice = "No tile is small enough: allow more with --max-memory (`max_memory`)."
        size = plan.shrink(limit / each / batch)
        if size:
            advice = (
                f"Predict in tiles with --tile {' '.join(map(str, size))} (`tile={size}`), or "
                f"allow more with --max-memory (`max_memory`)."
            )
        raise ValueError(
            f"{image.name or 'The image'} does not fit the memory: {batch} x {plan.tile} voxels "
            f"need about {memory.format_size(each * voxels)} ({each:.0f} bytes per voxel), and "
            f"{memory.format_size(limit)} may be used. {advice}"
        )

    def _measure(self, frame, image, t, statistics):
        name = image.name or "the image"
        name = f"frame {t} of {name}" if "T" in image.axes else name
        if statistics is None:
            return self.card.input.measure(frame, name)
        Normalizer("none").measure(frame, name)  # It refuses NaN, and measures nothing.
        return statistics

    def _predict_frame(self, frame, affine, plan, *, blend, batch, uncertainty, bar):
        """Predict an array `(*grid, channels)`; the result has its units."""
        frame, out = tiles.pad(frame, plan.divisor), None
        places = [place.along(plan.kept) for place in plan.places]
        shares = None if blend == "crop" else tiles.shares(places, blend)
        for first in range(0, len(places), batch):
            some = range(first, min(first + batch, len(places)))
            # An affine map of the whole image, applied where it is read: the image need
            # not be held a second time.
            x = np.stack([affine.apply(frame[plan.places[i].read]) for i in some])
            y = self._select(self._call(x, plan), uncertainty)
            if out is None:
                back = self._back(affine, y.shape[-1] // (1 + uncertainty))
                out = np.zeros((*plan.result(plan.padded), y.shape[-1]), np.float32)
            for i, part in zip(some, y):
                if blend == "crop":
                    out[places[i].write] = part[places[i].keep]
                else:
                    out[places[i].read] += part * tiles.weight(shares[i])[..., None]
            bar.update(len(some))
        out = tiles.crop(out, plan.result(plan.shape), plan.result(plan.divisor))
        locations = out.shape[-1] // (1 + uncertainty)
        for plane in out:  # One at a time, so that no second copy is made.
            plane[..., :locations] = back.undo(plane[..., :locations])
            if uncertainty:
                plane[..., locations:] *= back.gain
        return out

    def _call(self, x, plan):
        """Call the network on `(batch, *tile, channels)`; refuse an answer of another grid."""
        x = x.reshape(len(x), *plan.tile, x.shape[-1])
        y = self._run(x)
        sizes = dict(zip(self.card.axes, plan.tile))
        expected = (len(x), *(sizes[letter] for letter in self.card.output_axes))
        if y.shape[:-1] != expected:
            raise ValueError(
                f"The model answers images of shape {x.shape} with shape {y.shape}, and its card "
                f"promises {expected} and channels (axes {self.card.axes} to "
                f"{self.card.output_axes})."
            )
        return y.reshape(len(x), *plan.result(plan.size), y.shape[-1])

    def _select(self, y, uncertainty):
        """Drop the scale unless it is asked for; refuse channels that the card does not know."""
        channels, names = y.shape[-1], self.card.output_channels
        if self.card.probabilistic:
            if channels % 2:
                raise ValueError(
                    f"A probabilistic model answers with a location and a scale per channel. "
                    f"Received: {channels} channels."
                )
            channels //= 2
        if names and len(names) != channels:
            raise ValueError(
                f"The card names {len(names)} output channels ({', '.join(names)}), and the "
                f"model answers with {channels}."
            )
        return y if uncertainty else y[..., :channels]

    def _back(self, affine, channels):
        """The map that gives a result with so many channels its units."""
        if self.card.undo == "none":
            return Affine(np.zeros(1), np.ones(1))
        if self.card.undo == "stored":
            affine = Affine(np.asarray(self.card.target.offset), np.asarray(self.card.target.gain))
        self._check_units(np.size(affine.gain), channels)
        return affine

    def _images(self, result, image, plan, uncertainty):
        grid = "".join(plan.result(plan.grid))
        channels = result.shape[-1] // (1 + uncertainty)
        axes = "".join(a for a in image.axes if a in "TC" + grid)
        if "C" not in axes and channels > 1:
            first = min(axes.index(letter) for letter in grid)
            axes = f"{axes[:first]}C{axes[first:]}"
        parts = (result[..., :channels], result[..., channels:])[: 1 + uncertainty]
        images = tuple(
            replace(
                image,
                array=rearrange(part, f"T{grid}C", axes),
                axes=axes,
                voxel_size={a: size for a, size in image.voxel_size.items() if a in axes},
                channel_names=self.card.output_channels,
            )
            for part in parts
        )
        return images if uncertainty else images[0]

    def _info(self, plan, blend, used):
        whole = plan.whole
        info = {
            "mode": "whole" if whole else "tiles",
            "tile": None if whole else list(plan.tile),
            "overlap": None if whole else list(plan.overlap),
            "blend": None if whole else blend,
            "undo": self.card.undo,
            "statistics": [
                {"offset": _floats(affine.offset), "gain": _floats(affine.gain)} for affine in used
            ],
        }
        operators = getattr(self.model, "operators", {})
        if operators and not whole:
            info["note"] = (
                f"The network looks at the whole image at once ({', '.join(operators)}), and saw "
                f"only a tile: the result depends on the tile."
            )
        return info


def _read(image, t, order):
    """Read one frame of a time series, or what there is, in the given axis order."""
    index = tuple(t if letter == "T" else slice(None) for letter in image.axes)
    return rearrange(np.asarray(image.array[index]), image.axes.replace("T", ""), order)


def _channels(model, card):
    """How many channels the network reads, or `None` where nothing says so."""
    if card.input_channels:
        return len(card.input_channels)
    built = getattr(model, "get_build_config", dict)() or {}
    shape = built.get("input_shape") or getattr(model, "input_shape", None) or (None,)
    return shape[-1] if isinstance(shape[-1], int) else None


def _check_voxel_size(image, trained, name):
    both = [a for a in "ZYX" if image.voxel_size.get(a) and trained.get(a)]
    off = [a for a in both if abs(image.voxel_size[a] / trained[a] - 1) > VOXEL_TOLERANCE + 1e-9]
    if off:
        sizes = ", ".join(f"{a} {image.voxel_size[a]:g} µm" for a in off)
        known = ", ".join(f"{a} {trained[a]:g} µm" for a in off)
        warnings.warn(
            f"{name} has voxels of {sizes}, and the model was trained on {known}: resample it, or "
            f"expect a worse result.",
            stacklevel=4,
        )


def _floats(values):
    return [float(v) for v in np.atleast_1d(values)]
