"""Answers of a network to the tiles of an image."""

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from gvtnets_tf.checks import check_choice
from gvtnets_tf.data import multiscale
from gvtnets_tf.prediction import tiling
from gvtnets_tf.prediction.engines.keras import compile_model
from gvtnets_tf.zoo.card import Card


class TiledNetwork:
    """A network that is called tile by tile, and must answer as its card promises."""

    def __init__(self, model: Callable, card: Card):
        self.model, self.card = model, card
        self._compiled = {}

    def _compile(self, channels: tuple | None = None, flip_average: bool = False) -> Callable:
        """Return the network of some channels as a function of arrays, made once."""
        key = channels, flip_average
        if key not in self._compiled:
            part = self.model
            if channels is not None and hasattr(part, "select_outputs"):
                part = part.select_outputs(channels)
            run = compile_model(part, softmax=bool(self.card.classes))
            if flip_average:
                run = average_flips(run, self.card.axes, self.card.output_axes)
            self._compiled[key] = run
        return self._compiled[key]

    def _predict_tiles(self, x, affine, plan, channels, options, progress):
        """Yield the index of each place, and the answer of the network to it.

        The image `x` is `(*plan.padded, channels)`, of several scales before padding; the
        statistics `affine` are its own, and `channels` those of the result (`None` for all).
        """
        run, count = self._compile(channels, options.flip_average), len(plan.places)
        with tqdm(total=count, unit="tile", disable=not progress) as bar:
            for first in range(0, count, options.batch_size):
                batch = range(first, min(first + options.batch_size, count))
                tiles = [self._read_tile(x, affine, plan, plan.places[i].read) for i in batch]
                y = self._call(run, np.stack(tiles), plan)
                yield from zip(batch, self._select_outputs(y, channels, options.uncertainty))
                bar.update(len(batch))

    def _read_tile(self, x, affine, plan, place):
        """Read and normalize a tile, so that the image need not be held a second time."""
        scales = self.card.scales
        if len(scales) == 1:
            return affine.apply(x[place])
        own = len(place) - len(self.card.axes)
        plane, window = x[tuple(s.start for s in place[:own])], place[own:]
        before = [b for b, _ in tiling.pad_amounts(plan.shape, plan.divisor)][own:]
        start = [s.start - b for s, b in zip(window, before)]
        read = lambda slices: affine.apply(plane[slices])
        return multiscale.crop_multiscale(read, plane.shape[:-1], start, plan.tile, scales)

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
        return y.reshape(len(x), *plan.select_output(plan.size), *inner)

    def _select_outputs(self, y, chosen, uncertainty):
        """Select channels of a result, with their scales; refuse those not on the card."""
        if chosen is not None and hasattr(self.model, "select_outputs"):
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
        chosen = list(range(channels) if chosen is None else chosen)
        for channel in chosen:
            check_choice("output channel", channel, range(channels))
        scales = uncertainty and self.card.probabilistic
        return np.take(y, chosen + [channels + i for i in chosen] * scales, axis)


def average_flips(run: Callable, axes: str, output_axes: str) -> Callable:
    """Return a network that averages over the four mirror images along Y and X.

    `run` maps `(batch, *axes, channels)` to `(batch, *output_axes, ...)`. A scale is averaged as a
    location is, a distribution as it is. As in the released code of Ounkomol et al. (2018),
    Nat. Methods 15, 917-920. https://doi.org/10.1038/s41592-018-0111-2
    """
    # The batch comes before the grid.
    pairs = [(1 + axes.index(letter), 1 + output_axes.index(letter)) for letter in "YX"]

    def average(x):
        total = 0
        for chosen in ([], pairs[1:], pairs[:1], pairs):  # as it is, along X, along Y, both
            y = run(np.flip(x, [there for there, _ in chosen]))
            total = total + np.flip(y, [back for _, back in chosen])
        return total / 4

    return average
