"""Options of a prediction, in one value that goes through all layers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.images.limits import parse_size
from gvtnets_tf.images.normalization import Affine
from gvtnets_tf.images.writers import DTYPES
from gvtnets_tf.prediction.stitching import ESTIMATES
from gvtnets_tf.prediction.tiling import BLENDS
from gvtnets_tf.zoo.card import DENORMALIZE, Card

# Values of the options that are words; `statistics` may be an `Affine` too.
CHOICES = {
    "denormalize": (None, *DENORMALIZE),
    "statistics": ("frame", "series"),
    "blend": (None, *BLENDS),
    "estimate": ESTIMATES,
    "precision": ("float32", "bfloat16"),
}
# A result does not depend on these: a run that stopped may go on with other values.
INDEPENDENT = ("max_memory", "batch_size")


@dataclass(frozen=True)
class PredictionOptions:
    """Options of a prediction, checked when they are made.

    Args:
        axes: str. Axes of the input, in place of what its file says.
        input_channels: list of int or str. The channels the network reads, in its order. By
            default those that its card names, where the image names them too.
        denormalize: in place of the card's: `"input"`, `"stored"` or `"none"`, see `Card`.
        output_channels: list of int or str. Channels of the result, in this order; by default
            those that the training images had (`card.trained_channels`).
        voxel_size: micrometers in place of what the file says: a mapping from axis letter,
            or one number per spatial axis, in the order Z, Y, X.
        resample: bool. Resample an input whose voxels differ from those the model was
            trained on, and the result back to the grid of the input.
        flip_average: bool. Predict the mean over the four mirror images along Y and X.
        frames: str `"A:B:STEP"` or slice. Frames of a time series, as Python counts.
        statistics: of a time series: `"frame"`, each frame is normalized by its own;
            `"series"`, by those of all frames. Or an `Affine` measured elsewhere.
        tile: int or one int per letter of `card.axes`. Voxels that the network reads at
            a time, rounded up to its divisor. A projection holds the whole stack. By default
            an image is predicted whole, and in tiles only if it does not fit the memory.
        whole: bool. Predict whole, without asking whether it fits the memory.
        overlap: int or one int per letter of `card.axes`. Voxels that neighboring tiles share at
            least. By default an eighth of a tile per side, at least the divisor and at most a
            quarter; of windows (`card.tile`) half of one, as published (Liu et al. 2020).
        blend: how shared voxels are combined. `"crop"`: each tile gives up its half;
            `"average"`: the mean of the tiles (as published, with an overlap of 64);
            `"ramp"`: a linear cross-fade. By default `"crop"`, of windows `"average"`.
        estimate: `"median"` or `"mean"` of a distribution over classes.
        max_memory: bytes, or str such as `"4GiB"`, that a call of the network may take, and the
            pixels of an input, of a series those of a frame.
            By default 0.8 of what is available, unless `tile` or `whole` is given.
        batch_size: int. Tiles, or planes, predicted at a time.
        precision: `"float32"` or the faster, less exact `"bfloat16"`, of models loaded for the run.
        dtype: str. Type of the files; float32 where `None`. Values are rounded and clipped,
            and the clipped share is reported on standard error.
        uncertainty: bool. Predict the scale of a probabilistic network as well, or the
            standard deviation of a distribution over classes.

    Raises:
        ValueError: naming the option that is unknown, impossible or excluded by another.

    Examples:
        >>> PredictionOptions(tile=64, blend="ramp").tile
        64
        >>> PredictionOptions(blend="rampe")
        Traceback (most recent call last):
            ...
        ValueError: `blend` cannot be 'rampe'. Did you mean 'ramp'?
    """

    axes: str | None = None
    input_channels: Sequence | None = None
    denormalize: str | None = None
    output_channels: Sequence | None = None
    voxel_size: Mapping | Sequence | None = None
    resample: bool = False
    flip_average: bool = False
    frames: str | slice | None = None
    statistics: str | Affine = "frame"
    tile: int | Sequence | None = None
    whole: bool = False
    overlap: int | Sequence | None = None
    blend: str | None = None
    estimate: str = "median"
    max_memory: int | str | None = None
    batch_size: int = 1
    precision: str = "float32"
    dtype: str | None = None
    uncertainty: bool = False

    def __post_init__(self):
        for name in ("input_channels", "output_channels"):
            value = getattr(self, name)
            if isinstance(value, (str, int)):
                object.__setattr__(self, name, (value,))
            elif value is not None and not len(value):
                raise ValueError(f"Name at least one channel, or leave `{name}` out. Received: [].")
        for name, words in CHOICES.items():
            if name != "statistics" or not isinstance(self.statistics, Affine):
                check_choice(name, getattr(self, name), words)
        if self.whole and self.tile is not None:
            raise ValueError(f"Pass `whole` or `tile`, not both. Received: tile={self.tile}.")
        check_at_least("batch_size", self.batch_size, 1)
        if self.max_memory is not None:
            parse_size(self.max_memory)
        if self.dtype is not None:
            check_choice("dtype", str(self.dtype), DTYPES)

    def choose_units(self, card: Card) -> Card:
        """Return a card with the `denormalize` of these options; `ValueError` if it has not."""
        return card if self.denormalize is None else card.changed(denormalize=self.denormalize)

    def resume_key(self) -> dict:
        """Return by name the options that a result depends on: those of a run that goes on."""
        return {name: value for name, value in asdict(self).items() if name not in INDEPENDENT}


def collect_options(options: PredictionOptions | None, changes: Mapping) -> PredictionOptions:
    """Return options, by default the defaults, with changes given by keyword."""
    for name in changes:
        check_choice("option", name, [field.name for field in fields(PredictionOptions)])
    return replace(options or PredictionOptions(), **changes)
