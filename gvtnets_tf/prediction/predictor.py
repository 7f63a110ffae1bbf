"""An image of any size through a network: normalized, padded, tiled and brought back."""

import math
from dataclasses import replace

import numpy as np
from tqdm import tqdm

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data import multiscale
from gvtnets_tf.images.axes import rearrange
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine, Normalizer
from gvtnets_tf.prediction import compatibility, memory, stitching, tiling
from gvtnets_tf.prediction.engines.keras import runner

BLENDS = ("crop", *tiling.WEIGHTS)
SHARE = 0.8  # of the available memory, what a call may take unasked


class Predictor:
    """A network and what must be known of it, ready for images.

    Attributes:
        model: callable `(batch, *grid, channels) -> (batch, *grid_out, channels_out)`,
            a Keras model or any other; with `card.classes`, of logits with one axis more. Read
            from it where present: `divisor`, what each axis of the grid must be a multiple
            of, `operators`, the places where it looks at the whole image at once, and
            `select_outputs(labels)`, the network of some of its channels.
        card: `Card`.
    """

    def __init__(self, model, card):
        divisor = getattr(model, "divisor", 1)
        self.model, self.card = model, card
        self.divisor = tiling.per_axis("model.divisor", divisor, card.axes)
        self._bytes_per_voxel = card.bytes_per_voxel
        self._held = memory.PROBE  # voxels of the largest call that is known to fit
        self._runners = {}  # by the labels asked for

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
        blend=None,
        max_memory=None,
        batch=1,
        uncertainty=False,
        progress=False,
        statistics=None,
        labels=None,
        estimate="median",
    ):
        """Predict an image.

        It is normalized by statistics of the whole image (each frame of a time series by
        its own), padded by reflection, predicted whole or in tiles, cropped, and given its
        units by `card.denormalize`. A network of planes predicts a stack plane by plane, with the
        statistics of the stack. Frames are read one at a time, first all of them to be measured
        (a blank one is named before hours of work), then each to be predicted.

        Args:
            image: `Image`.
            tile: int or one int per letter of `card.axes`. Voxels that the network reads at
                a time, rounded up to its divisor. A projection holds the whole stack.
            whole: bool. Predict whole, without asking whether it fits.
            overlap: int or one int per letter of `card.axes`. Voxels that neighbouring
                tiles share at least. By default twice an eighth of the tile, which is
                rounded up to the divisor and at most a quarter; half of the tile for a
                network that learned windows (`card.tile`), as published (Liu et al. 2020).
            blend: what becomes of shared voxels. `"crop"`: each tile gives up its half;
                `"average"`: the mean of the tiles (as published, with an overlap of 64);
                `"ramp"`: a linear cross-fade. By default `"crop"`, of windows `"average"`.
            max_memory: bytes, or str such as `"4GiB"`, that a call of the network may take.
                By default 0.8 of what is available, unless `tile` or `whole` is given.
            batch: int. Tiles, or planes, predicted at a time.
            uncertainty: bool. Return the scale of a probabilistic network as well, or the
                standard deviation of a distribution over classes.
            progress: bool. Show a bar on standard error.
            statistics: `Affine` of the input, measured elsewhere.
            labels: sequence of str or int. Which channels of the result, in this order; by
                default those that the training images had (`card.trained_channels`).
            estimate: `"median"` or `"mean"` of a distribution over classes.

        Returns:
            `(result, info)`. `result` is an `Image` (float32) with the axes of the input;
            a projection drops Z. Axis C stays where the input had it. Where it had none, a
            result with several channels gets one in front of its spatial axes, as in
            `"TCZYX"`. With `uncertainty`, `result` is a tuple of two such images, location
            and scale. `info` says how it was done, in values that JSON can hold: `mode`
            (`"whole"` or `"tiles"`), `tile`, `overlap`, `blend`, `denormalize`, `statistics`
            (offset and gain of the input, one entry per frame) and, where the result depends on the
            tiles, `note`.

        Raises:
            ValueError: for axes or channels that do not fit the network, NaN, a constant
                image, an image that does not fit the memory, a tile that leaves nothing
                between its halos, or options that exclude each other.

        Reference:
            Order of the steps, padding and average as in Wang, Xie & Ji (2021).
            https://doi.org/10.1038/s42256-020-00283-x
        """
        blend = check_choice("blend", blend or self._blend, BLENDS)
        check_choice("estimate", estimate, stitching.ESTIMATES)
        check_at_least("batch", batch, 1)
        compatibility.check_image(image, self.model, self.card, uncertainty, statistics)
        labels = self._labels(labels)
        plan = self._plan(image, tile, whole, overlap)
        batch = min(batch, len(plan.places))
        if max_memory is not None or (tile is None and not whole):
            self._check_fits(image, plan, batch, max_memory, labels)

        how = {"blend": blend, "estimate": estimate, "uncertainty": uncertainty, "labels": labels}
        frames, order = image.sizes.get("T", 1), plan.grid + "C"
        used = [self._measure(_read(image, t, order), image, t, statistics) for t in range(frames)]
        with tqdm(total=frames * len(plan.places), unit="tile", disable=not progress) as bar:
            for t in range(frames):
                y = self._predict_frame(
                    _read(image, t, order),
                    used[t],
                    plan,
                    batch=batch,
                    bar=bar,
                    **how,
                )
                if t == 0:
                    result = np.empty((frames, *y.shape), np.float32) if frames > 1 else y[None]
                result[t] = y
        self._held = max(self._held, math.prod(plan.tile) * batch)
        return self._images(result, image, plan, uncertainty, labels), self._info(plan, used, how)

    def bytes_per_voxel(self, channels=1):
        """Peak memory of a call per voxel of its input: the card's, or measured once."""
        if self._bytes_per_voxel is None:
            self._bytes_per_voxel = memory.bytes_per_voxel(
                self._run(None), self.divisor, channels * len(self.card.scales),
                len(self.card.axes), self.card.tile,
            )  # fmt: skip
        return self._bytes_per_voxel

    def _run(self, labels):
        """The network of some labels as a function of arrays, made once."""
        if labels not in self._runners:
            part = self.model
            if labels is not None and hasattr(part, "select_outputs"):
                part = part.select_outputs(labels)
            self._runners[labels] = runner(part, softmax=bool(self.card.classes))
        return self._runners[labels]

    def _labels(self, labels):
        """Indices of the channels that are wanted, or `None` for all there are."""
        if labels is None:
            labels = self.card.trained_channels or None
        elif not len(labels):
            raise ValueError("Ask for at least one label, or leave `labels` out. Received: [].")
        if labels is None:
            return None
        names = self.card.output_channels
        for label in labels:
            if names or isinstance(label, str):
                check_choice("label", label, [*names, *range(len(names))])
        return tuple(names.index(x) if isinstance(x, str) else int(x) for x in labels)

    @property
    def _blend(self):
        return "average" if self.card.tile else "crop"

    def _plan(self, image, tile, whole, overlap):
        if whole and (tile is not None or self.card.tile):
            given = f"tile={tile}" if tile is not None else f"a model of {self.card.tile} windows"
            raise ValueError(f"Pass `whole` or `tile`, not both. Received: {given}.")
        card, divisor = self.card, self.divisor
        if card.tile:
            tile = tiling.per_axis("tile", card.tile if tile is None else tile, card.axes)
            tile = tiling.round_up(tile, divisor)
            multiscale.check_scales(card.scales, tile, card.axes)
            overlap = [n // 2 for n in tile] if overlap is None else overlap
            # A smaller image is padded to one window.
            divisor = tuple(
                t if image.sizes[a] < t else d for a, t, d in zip(card.axes, tile, divisor)
            )
        axes = (card.axes, card.output_axes)
        return tiling.plan(image.sizes, *axes, divisor, tile=tile, overlap=overlap)

    def _check_fits(self, image, plan, batch, max_memory, labels):
        voxels = math.prod(plan.tile) * batch
        if max_memory is None:
            if voxels <= self._held and not self.card.classes:
                return
            limit = SHARE * memory.available()
        else:
            limit = memory.parse_size(max_memory)
        each, held = self.bytes_per_voxel(image.sizes.get("C", 1)), 0
        if self.card.classes:
            labels = len(self.card.output_channels) if labels is None else len(labels)
            held = 4 * stitching.band_voxels(plan) * labels * self.card.classes
        compatibility.check_memory(image, plan, batch, each, held, limit)

    def _measure(self, frame, image, t, statistics):
        name = image.name or "the image"
        name = f"frame {t} of {name}" if "T" in image.axes else name
        if statistics is None:
            return self.card.input_normalizer.measure(frame, name)
        Normalizer("none").measure(frame, name)  # It refuses NaN, and measures nothing.
        return statistics

    def _predict_frame(
        self, frame, affine, plan, *, blend, estimate, uncertainty, labels, batch, bar
    ):  # fmt: skip
        """Predict an array `(*grid, channels)`; the result has its units."""
        if len(self.card.scales) == 1:  # several scales are reflected as they are cut
            frame = tiling.pad(frame, plan.divisor)
        answers = self._answers(frame, affine, plan, uncertainty, labels, batch, bar)
        if self.card.classes:
            out = stitching.stitch_distributions(answers, plan, blend, estimate, uncertainty)
        else:
            out = stitching.stitch(answers, plan, blend)
        out = tiling.crop(out, plan.result(plan.shape), plan.result(plan.divisor))
        locations = out.shape[-1] // (1 + uncertainty)
        back = self._back(affine, locations, labels)
        for plane in out:  # One at a time, so that no second copy is made.
            plane[..., :locations] = back.undo(plane[..., :locations])
            if uncertainty:
                plane[..., locations:] *= back.gain
        return out

    def _answers(self, frame, affine, plan, uncertainty, labels, batch, bar):
        """Yield the index of each place and what the network says of it."""
        run = self._run(labels)
        for first in range(0, len(plan.places), batch):
            some = range(first, min(first + batch, len(plan.places)))
            x = np.stack([self._window(frame, affine, plan, plan.places[i].read) for i in some])
            yield from zip(some, self._select(self._call(run, x, plan), uncertainty, labels))
            bar.update(len(some))

    def _window(self, frame, affine, plan, place):
        """What the network reads of a place, normalized.

        An affine map of the whole image is applied where it is read: the image need not be
        held a second time.
        """
        if len(self.card.scales) == 1:
            return affine.apply(frame[place])
        own = len(place) - len(self.card.axes)
        plane, window = frame[tuple(s.start for s in place[:own])], place[own:]
        before = [b for b, _ in tiling.pad_amounts(plan.shape, plan.divisor)][own:]
        start = [s.start - b for s, b in zip(window, before)]
        size = [s.stop - s.start for s in window]
        read = lambda slices: affine.apply(plane[slices])
        return multiscale.crop_multiscale(read, plane.shape[:-1], start, size, self.card.scales)

    def _call(self, run, x, plan):
        """Call the network on `(batch, *tile, channels)`; refuse an answer of another grid."""
        x = x.reshape(len(x), *plan.tile, x.shape[-1])
        y = run(x)
        sizes = dict(zip(self.card.axes, plan.tile))
        expected = (len(x), *(sizes[letter] for letter in self.card.output_axes))
        inner = y.shape[len(expected) :]
        if y.shape[: len(expected)] != expected or len(inner) != 1 + bool(self.card.classes):
            raise ValueError(
                f"The model answers images of shape {x.shape} with shape {y.shape}, and its card "
                f"promises {expected} and channels (axes {self.card.axes} to "
                f"{self.card.output_axes}){' and classes' if self.card.classes else ''}."
            )
        return y.reshape(len(x), *plan.result(plan.size), *inner)

    def _select(self, y, uncertainty, labels):
        """Keep the channels that are wanted, with their scales; refuse those not on the card."""
        if labels is not None and hasattr(self.model, "select_outputs"):
            return y
        axis = -2 if self.card.classes else -1
        channels, names = y.shape[axis], self.card.output_channels
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
        wanted = list(range(channels) if labels is None else labels)
        for label in wanted:
            check_choice("label", label, range(channels))
        scales = uncertainty and self.card.probabilistic
        return np.take(y, wanted + [channels + i for i in wanted] * scales, axis)

    def _back(self, affine, channels, labels):
        """The map that gives a result with so many channels its units."""
        if self.card.denormalize == "none":
            return Affine(np.zeros(1), np.ones(1))
        if self.card.denormalize == "stored":
            stored = (
                np.asarray(v)
                for v in (self.card.target_normalizer.offset, self.card.target_normalizer.gain)
            )
            affine = Affine(*stored)
        if labels is not None and np.size(affine.gain) > 1:
            affine = Affine(affine.offset[list(labels)], affine.gain[list(labels)])
        compatibility.check_units(self.card.denormalize, np.size(affine.gain), channels)
        return affine

    def _images(self, result, image, plan, uncertainty, labels):
        grid = "".join(plan.result(plan.grid))
        channels = result.shape[-1] // (1 + uncertainty)
        axes = "".join(a for a in image.axes if a in "TC" + grid)
        if "C" not in axes and channels > 1:
            first = min(axes.index(letter) for letter in grid)
            axes = f"{axes[:first]}C{axes[first:]}"
        parts = (result[..., :channels], result[..., channels:])[: 1 + uncertainty]
        names = self.card.output_channels
        if labels is not None and names:
            names = tuple(names[i] for i in labels)
        images = tuple(
            replace(
                image,
                array=rearrange(part, f"T{grid}C", axes),
                axes=axes,
                voxel_size={a: size for a, size in image.voxel_size.items() if a in axes},
                channel_names=names,
            )
            for part in parts
        )
        return images if uncertainty else images[0]

    def _info(self, plan, used, how):
        whole = plan.whole and not self.card.tile
        info = {
            "mode": "whole" if whole else "tiles",
            "tile": None if whole else list(plan.tile),
            "overlap": None if whole else list(plan.overlap),
            "blend": None if whole else how["blend"],
            "denormalize": self.card.denormalize,
            "statistics": [
                {"offset": _floats(affine.offset), "gain": _floats(affine.gain)} for affine in used
            ],
        }
        if self.card.classes:
            info["estimate"] = how["estimate"]
        if self.card.tile:
            info["note"] = "The network reads windows of one size: the result depends on them."
            return info
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


def _floats(values):
    return [float(v) for v in np.atleast_1d(values)]
