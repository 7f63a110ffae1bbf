"""TensorFlow graphs of a network, and of all that a `Predictor` does to an image.

The graphs need none of this package once they are saved. Statistics are measured per image, so
that images in a batch do not change each other's results.
"""

from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from gvtnets_tf.models.base import ImageModel
from gvtnets_tf.prediction.predictor import Predictor

OUTPUTS = ("prediction", "uncertainty")


def remove_chunks(model: keras.Model) -> keras.Model:
    """Return a built network whose softmax attention is computed at once, with the same weights.

    Chunks save memory and do not change the result, and converters fail on their loop.
    """
    if not isinstance(model, ImageModel):
        return model
    config = model.get_config()
    plain = _blank(config, "chunk")
    if plain == config:
        return model
    twin = type(model).from_config(plain)
    twin.build(model.get_build_config()["input_shape"])
    twin.set_weights(model.get_weights())
    return twin


def _blank(config, key):
    """Copy nested mappings, with every `key` set to `None`."""
    if not isinstance(config, Mapping):
        return config
    return {k: None if k == key else _blank(v, key) for k, v in config.items()}


def build_network_graph(predictor: Predictor, channels: int) -> Callable:
    """Build the graph of the network alone.

    It is a `tf.function` from `image`, float32 `(batch, *grid, channels)`, normalized, each
    spatial axis a multiple of the divisor, to a dict of float32 tensors: `prediction` and, of a
    probabilistic network, `uncertainty`.
    """
    card = predictor.card

    def run(image):
        y = predictor.model(image, training=False)
        parts = tf.split(y, 2, axis=-1) if card.probabilistic else [y]
        return dict(zip(OUTPUTS, parts))

    return _graph(run, len(card.axes), channels)


def build_prediction_graph(predictor: Predictor, channels: int) -> Callable:
    """Build the graph of all that a `Predictor` does to an image predicted whole.

    It is like that of `build_network_graph`, from camera counts of any size to results with
    units. An image that is constant, or holds NaN, is an `InvalidArgumentError`.
    """
    card, run = predictor.card, build_network_graph(predictor, channels)
    kept_axes = [i for i, letter in enumerate(card.axes) if letter in card.output_axes]

    def predict(image):
        tf.debugging.assert_all_finite(image, "`image` holds NaN or infinity: replace them.")
        # float64, as in `Affine`: large counts lose nothing before the offset is taken off.
        offset, gain = _measure_affine(card.input_normalizer, tf.cast(image, tf.float64))
        rank = len(card.axes)
        x = (tf.cast(image, tf.float64) - _expand(offset, rank)) / _expand(gain, rank)
        results = run(_pad(tf.cast(x, tf.float32), predictor.divisor))
        grid = [(tf.shape(image)[1 + i], predictor.divisor[i]) for i in kept_axes]
        results = {name: _crop(y, grid) for name, y in results.items()}
        return _denormalize(results, card, offset, gain)

    return _graph(predict, len(card.axes), channels)


def _graph(function, rank, channels):
    spec = tf.TensorSpec((None,) * (1 + rank) + (channels,), tf.float32, name="image")
    return tf.function(function, input_signature=[spec])


def _measure_affine(rule, x):
    """Measure offset and gain, `(batch, channels)`, of each image, as `Normalizer.measure`."""
    batch, channels = tf.shape(x)[0], x.shape[-1]
    x = tf.reshape(x, (batch, -1, channels))
    if rule.kind in ("fixed", "none"):
        known = (0.0, 1.0) if rule.kind == "none" else (rule.offset, rule.gain)
        known = (tf.constant(values, tf.float64) for values in known)
        return tuple(tf.broadcast_to(values, (batch, channels)) for values in known)
    if rule.kind == "zscore":
        mean, variance = tf.nn.moments(x, axes=[1])
        offset, gain = mean, tf.sqrt(variance)
    elif rule.kind == "unit":
        low, high = tf.reduce_min(x, 1), tf.reduce_max(x, 1)
        offset, gain = (high + low) / 2, (high - low) / 2
    else:
        x = tf.sort(x, axis=1)
        low, high = _percentile(x, rule.low), _percentile(x, rule.high)
        offset, gain = low, high - low
    tf.debugging.assert_positive(gain, "`image` is constant: there is nothing to normalize by.")
    return offset, gain


def _percentile(x, percent):
    """Measure a percentile along axis 1 of sorted values, with linear interpolation as NumPy's."""
    last = tf.shape(x)[1] - 1
    position = percent / 100 * tf.cast(last, tf.float64)
    below = tf.cast(tf.floor(position), tf.int32)
    low, high = tf.gather(x, below, axis=1), tf.gather(x, tf.minimum(below + 1, last), axis=1)
    return low + (high - low) * (position - tf.floor(position))


def _expand(values, rank):
    """Give `(batch, channels)` the spatial axes of an image, each of length one."""
    return tf.reshape(values, (-1, *(1,) * rank, values.shape[-1]))


def _count_padding(size, divisor):
    """Count the voxels that padding puts before an axis, and all that it adds."""
    missing = tf.math.floormod(-size, divisor)
    return missing // 2, missing


def _pad(x, divisor):
    """Pad by reflection as `tiling.pad`, also where an axis is shorter than its padding."""
    for axis, factor in enumerate(divisor, 1):
        size = tf.shape(x)[axis]
        before, missing = _count_padding(size, factor)
        # An axis between two mirrors repeats after `period` voxels, half of them backwards.
        period = tf.maximum(2 * (size - 1), 1)
        places = tf.math.floormod(tf.range(size + missing) - before, period)
        x = tf.gather(x, tf.minimum(places, period - places), axis=axis)
    return x


def _crop(y, grid):
    """Crop the padding of `_pad`; `grid` has a size and a divisor for each axis of the result."""
    begin = [0, *(_count_padding(size, divisor)[0] for size, divisor in grid), 0]
    return tf.slice(y, begin, [-1, *(size for size, _ in grid), -1])


def _denormalize(results, card, offset, gain):
    """Give results their units; a scale has a gain, and no offset."""
    if card.denormalize == "none":
        return results
    if card.denormalize == "stored":
        stored = card.target_affine
        offset, gain = (tf.constant(v[None], tf.float64) for v in (stored.offset, stored.gain))
    rank = len(card.output_axes)
    offset, gain = _expand(offset, rank), _expand(gain, rank)
    scaled = {name: tf.cast(y, tf.float64) * gain for name, y in results.items()}
    scaled["prediction"] += offset
    return {name: tf.cast(y, tf.float32) for name, y in scaled.items()}
