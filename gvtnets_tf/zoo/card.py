"""The card of a trained network: axes, normalization, units and provenance."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from gvtnets_tf.checks import check_choice, check_fits, read_dataclass
from gvtnets_tf.images.normalization import Affine, Normalizer

AXES = ("ZYX", "YX")
DENORMALIZE = ("input", "stored", "none")


@dataclass(frozen=True)
class Card:
    """The part of a model folder's `model.json` that is not architecture.

    Attributes:
        axes: str. Spatial axes of one input image, `"ZYX"` or `"YX"`; channels come last.
        output_axes: str. Spatial axes of the result; a projection drops `Z`.
        input_normalizer, target_normalizer: `Normalizer`, as in training.
        target_statistics: mapping of `offset` and `gain` to lists of float, one per output
            channel: the mean over the training targets. Empty where they were not measured.
        denormalize: the map that gives a prediction its units: the `input`'s own, the `stored`
            one of the targets, or `none`.
        voxel_size: mapping from axis letter to micrometers of the training data.
        input_channels, output_channels: tuples of str, one name per channel.
        file_channels: tuple of str. Names of all channels of a training file, of which the
            network reads `input_channels`; empty where it is not known.
        trained_channels: tuple of str. Output channels that the training images had, where some
            were missing; the others, never learned, are predicted only if asked for.
        scales: tuple of float. Extents at which the network reads its input, see
            `multiscale.crop_multiscale`; its channels are repeated for each.
        tile: tuple of int. Voxels that the network reads at a time, where that is part of
            what it learned; empty where it is free.
        classes: int or `None`. The network answers with a distribution over so many
            intensities per channel, from offset to offset + gain of the target.
        probabilistic: bool. Whether the network's last axis is `[location..., scale...]`.
        bytes_per_voxel: float or `None`. Measured peak memory of a prediction.
        training: mapping. Summary of the training run: steps, loss, scores.
        provenance, license: str. Where the weights come from, and their terms.

    Raises:
        ValueError: for unknown axes or an unknown `denormalize`, `"stored"` without stored
            numbers, `target_statistics` that are none, and sizes that are not above 0.

    Examples:
        >>> Card.from_dict({"axis": "YX"})
        Traceback (most recent call last):
            ...
        ValueError: `key of the model card` cannot be 'axis'. Did you mean 'axes'?
    """

    axes: str = "ZYX"
    output_axes: str = "ZYX"
    input_normalizer: Normalizer = field(default_factory=Normalizer)
    target_normalizer: Normalizer = field(default_factory=Normalizer)
    target_statistics: Mapping = field(default_factory=dict)
    denormalize: str = "input"
    voxel_size: Mapping[str, float] = field(default_factory=dict)
    input_channels: tuple[str, ...] = ()
    output_channels: tuple[str, ...] = ()
    file_channels: tuple[str, ...] = ()
    trained_channels: tuple[str, ...] = ()
    scales: tuple[float, ...] = (1,)
    tile: tuple[int, ...] = ()
    classes: int | None = None
    probabilistic: bool = False
    bytes_per_voxel: float | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    provenance: str = ""
    license: str = ""

    def __post_init__(self):
        check_choice("denormalize", self.denormalize, DENORMALIZE)
        for name in ("axes", "output_axes"):
            check_choice(name, getattr(self, name), AXES)
        for letter in self.voxel_size:
            check_choice("key of voxel_size", letter, tuple("TZYX"))
        for name in ("voxel_size", "scales", "tile", "classes", "bytes_per_voxel"):
            value = getattr(self, name)
            numbers = value.values() if isinstance(value, Mapping) else np.atleast_1d(value)
            above = all(number is None or number > 0 for number in numbers)
            check_fits(above, name, value, "above 0")
        check_fits(bool(self.scales), "scales", self.scales, "one number at least")
        if self.target_affine is None and self.denormalize == "stored":
            raise ValueError(
                "`denormalize='stored'` needs the statistics of the training targets, which this "
                "model lacks: use 'none', for normalized values, or 'input'. Received: "
                f"target_statistics={self.target_statistics}, target_normalizer of kind "
                f"{self.target_normalizer.kind!r}."
            )

    @property
    def target_affine(self) -> Affine | None:
        """The map between the units of the training targets and normalized values, if known."""
        rule = self.target_normalizer
        if self.target_statistics:
            return Affine.parse(self.target_statistics, "target_statistics")
        if rule.kind == "fixed":  # so it was stored before there were statistics
            return Affine(np.asarray(rule.offset), np.asarray(rule.gain))
        return None

    @property
    def units(self) -> str:
        """What predictions count in: `"target"`, `"input"`, or `"normalized"` values."""
        known, given = self.target_affine, self.denormalize
        if given == "input" and self.input_normalizer.kind == "none" and known is not None:
            given = "none"  # it changes nothing
        if given == "none":
            raw = known is not None and not known.offset.any() and (known.gain == 1).all()
            return "target" if raw else "normalized"
        return "target" if given == "stored" else "input"

    def to_dict(self) -> dict:
        """Return a mapping that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> "Card":
        """Make the card that `to_dict` described; an error names the key, and what fits there."""
        return read_dataclass(cls, values, whole="the model card")

    def changed(self, **changes) -> "Card":
        """Return a copy with other values."""
        return replace(self, **changes)
