"""Run an image of any size through a network: normalize, pad, tile, and bring back."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gvtnets_tf.checks import check_choice
from gvtnets_tf.data import multiscale
from gvtnets_tf.images import limits
from gvtnets_tf.images.axes import rearrange
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.normalization import Affine
from gvtnets_tf.prediction import compatibility, memory, results, stitching, tiling, time_series
from gvtnets_tf.prediction.options import PredictionOptions, collect_options
from gvtnets_tf.prediction.tiled_network import TiledNetwork
from gvtnets_tf.zoo.card import Card

SHARE = 0.8  # of the available memory, that a call may take by default


class Predictor(TiledNetwork):
    """A network with its card, ready for images.

    Args:
        model: callable `(batch, *grid, channels) -> (batch, *grid_out, channels_out)`,
            a Keras model or any other; with `card.classes`, of logits with one axis more. Read
            from it where present: `divisor`, of which each axis of the grid must be a multiple,
            `operators`, the places where it looks at the whole image at once, and
            `select_outputs(channels)`, the network of some of its channels.
        card: `Card`.

    Attributes:
        divisor: tuple of int, one per letter of `card.axes`.
        memory: int. Bytes available when the predictor was made. A process keeps memory
            that a call has freed, so that later it would look taken.

    Examples:
        >>> from gvtnets_tf.images.normalization import Normalizer
        >>> card = Card("YX", "YX", Normalizer("none"), denormalize="none")
        >>> Predictor(lambda x: 2 * x, card)(np.ones((2, 3)))
        array([[2., 2., 2.],
               [2., 2., 2.]], dtype=float32)
    """

    def __init__(self, model: Callable, card: Card):
        super().__init__(model, card)
        divisor = getattr(model, "divisor", 1)
        self.divisor = tiling.check_per_axis("model.divisor", divisor, card.axes)
        self.memory = limits.measure_available()
        self._bytes_per_voxel = card.bytes_per_voxel

    def __call__(
        self, array: np.ndarray, axes: str | None = None,
        options: PredictionOptions | None = None, *, progress: bool = False, **fields,
    ) -> np.ndarray | tuple:  # fmt: skip
        """Predict an array.

        Args:
            array: array in camera counts, or in the units that the network was trained on.
            axes: str. One letter of `TCZYX` per axis; by default `card.axes`.
            options, progress, **fields: as in `predict`.

        Returns:
            Float32 array with axes as `predict` gives them; with `uncertainty` a tuple of two.
        """
        image = Image(np.asarray(array), self.card.axes if axes is None else axes)
        result, _ = self.predict(image, options, progress=progress, **fields)
        return tuple(r.array for r in result) if isinstance(result, tuple) else result.array

    def predict(
        self, image: Image, options: PredictionOptions | None = None, *, progress: bool = False,
        **fields,
    ) -> tuple:  # fmt: skip
        """Predict an image or a time series.

        It is normalized by statistics of the whole image (each frame of a time series by its own),
        padded by reflection, predicted whole or in tiles, cropped, and given its units by
        `denormalize`. A network of planes predicts a stack plane by plane, with the
        statistics of the stack.

        Args:
            image: `Image`.
            options: `PredictionOptions`.
            progress: bool. Show a bar on standard error.
            **fields: of `PredictionOptions`, in place of `options` or of some of them.

        Returns:
            `(result, info)`. `result` is an `Image` (float32) with the axes of the input; a
            projection drops Z. Axis C stays where the input had it; where it had none, several
            channels stand in front of the spatial axes, as in `"TCZYX"`. With `uncertainty`,
            `result` is a tuple of two such images, location and scale. `info` is a mapping with
            `mode` (`"whole"` or `"tiles"`), `tile`, `overlap`, `blend`, `denormalize`, `units`
            (see `Card.units`; of `"normalized"` ones `target_statistics` too), `statistics`
            (offset and gain of each frame) and, where the tiles matter, a `note`.

        Raises:
            ValueError: for an option that does not fit, axes or channels that the network does
                not read, NaN, a constant image, one of which no tile fits the memory, or a result
                that is not finite.

        Reference:
            Order of the steps, padding and average as in Wang, Xie & Ji (2021).
            https://doi.org/10.1038/s42256-020-00283-x
        """
        options = collect_options(options, fields)
        if options.dtype:
            raise ValueError(
                f"`dtype` is of files, and an array is float32: write it with `gvtnets_tf.write`. "
                f"Received: dtype={options.dtype!r}."
            )
        images, info = time_series.predict_series(image, self, options, progress=progress)
        return tuple(images) if options.uncertainty else images[0], info

    @property
    def precision(self) -> str:
        """Type in which the layers of the network compute."""
        return getattr(self.model, "compute_dtype", "float32")

    def check(
        self, image: Image, options: PredictionOptions, may_tile: bool = True
    ) -> PredictionOptions:
        """Refuse an option, or an image on the voxels of the network, before anything is read.

        Returned are the options, with a tile if the image `may_tile` and does not fit the memory.
        """
        if options.precision not in ("float32", self.precision):
            raise ValueError(
                f"`precision` is chosen when a model is loaded: `load(model, "
                f"precision={options.precision!r})`. Received: a predictor of {self.precision}."
            )
        compatibility.check_image(image, self.model, options.choose_units(self.card), options)
        plan, channels = self._plan(image, options), self._output_indices(options)
        if options.max_memory is not None or (options.tile is None and not options.whole):
            tile = self._check_memory(image, plan, channels, options, may_tile)
            options = replace(options, tile=tile or options.tile)
        compatibility.warn_thin(image.sizes, self.card, self.divisor, image.name)
        return options

    def predict_frame(
        self, frame: Image, affine: Affine, options: PredictionOptions, progress: bool = False
    ) -> tuple:
        """Predict one frame, without axis T, that was checked and measured.

        Returned are the images of `results.to_images` and the mapping of `results.describe`.
        """
        plan, channels = self._plan(frame, options), self._output_indices(options)
        card = options.choose_units(self.card)
        blend = options.blend or ("average" if self.card.tile else "crop")
        x = rearrange(frame.array, frame.axes, plan.grid + "C")
        if len(self.card.scales) == 1:  # several scales are reflected as they are cut
            x = tiling.pad(x, plan.divisor)
        answers = self._predict_tiles(x, affine, plan, channels, options, progress)
        if self.card.classes:
            numbers = options.estimate, options.uncertainty
            y = stitching.stitch_distributions(answers, plan, blend, *numbers)
        else:
            y = stitching.stitch(answers, plan, blend)
        y = tiling.crop(y, plan.select_output(plan.shape), plan.select_output(plan.divisor))
        try:
            results.denormalize(y, affine, card, channels, options.uncertainty)
        except ValueError as error:
            raise ValueError(f"The prediction of {frame.name or 'the image'}: {error}") from error
        results.check_finite(y, frame.name)
        names = self.card.output_channels
        if names and channels is not None:
            names = [names[i] for i in channels]
        operators = getattr(self.model, "operators", ())
        return (
            results.to_images(y, frame, plan, names, options.uncertainty),
            results.describe(plan, card, channels, options.estimate, blend, affine, operators),
        )

    def bytes_per_voxel(self, channels: int = 1) -> float:
        """Return the peak memory of a call per voxel of its input: the card's, or measured once."""
        if self._bytes_per_voxel is None:
            card, channels = self.card, channels * len(self.card.scales)
            self._bytes_per_voxel = memory.measure_bytes_per_voxel(
                self._compile(), self.divisor, channels, len(card.axes), card.tile
            )
        return self._bytes_per_voxel

    def _output_indices(self, options):
        """Return the indices of the channels of the result, or `None` for all there are."""
        channels, names = options.output_channels, self.card.output_channels
        channels = self.card.trained_channels or None if channels is None else channels
        if channels is None:
            return None
        for channel in channels:
            if names or isinstance(channel, str):
                check_choice("output channel", channel, [*names, *range(len(names))])
        return tuple(names.index(x) if isinstance(x, str) else int(x) for x in channels)

    def _plan(self, image, options):
        card, divisor, tile, overlap = self.card, self.divisor, options.tile, options.overlap
        if card.tile:
            if options.whole:
                raise ValueError(
                    f"`whole` is of networks that read images of any size. Received: a model of "
                    f"{card.tile} windows."
                )
            tile = tiling.check_per_axis("tile", card.tile if tile is None else tile, card.axes)
            tile = tiling.round_up(tile, divisor)
            multiscale.check_scales(card.scales, tile, card.axes)
            overlap = [n // 2 for n in tile] if overlap is None else overlap
            # A smaller image is padded to one window.
            sizes = zip((image.sizes[a] for a in card.axes), tile, divisor)
            divisor = tuple(t if n < t else d for n, t, d in sizes)
        return tiling.plan_tiles(
            image.sizes, card.axes, card.output_axes, divisor, tile=tile, overlap=overlap
        )

    def _check_memory(self, image, plan, channels, options, may_tile):
        max_memory, batch_size = options.max_memory, min(options.batch_size, len(plan.places))
        small = math.prod(plan.tile) * batch_size <= memory.PROBE_VOXELS
        if max_memory is None and small and self._bytes_per_voxel is None:
            return None  # To measure takes as much.
        limit = SHARE * self.memory if max_memory is None else limits.parse_size(max_memory)
        per_voxel, band = self.bytes_per_voxel(image.sizes.get("C", 1)), 0
        if self.card.classes:
            count = len(self.card.output_channels) if channels is None else len(channels)
            band = 4 * stitching.count_band_voxels(plan) * count * self.card.classes
        may_tile = may_tile and options.tile is None and not (options.whole or self.card.tile)
        operators = getattr(self.model, "operators", ())
        numbers = plan, batch_size, per_voxel, band, limit
        return compatibility.check_memory(image.name, *numbers, may_tile, operators)
