"""The common checks: what every layer and every model of the package must pass."""

import inspect
import json

import keras
import numpy as np
import tensorflow as tf

from gvtnets_tf.models.base import named_weights

# Largest error of a half-precision answer, relative to the largest value of the float32 one.
HALF = {"mixed_float16": ("float16", 0.03), "mixed_bfloat16": ("bfloat16", 0.15)}


def check_layer(make, *inputs, weights):
    """Hold a layer to the common checks.

    Args:
        make: callable returning a fresh layer; takes `**kwargs` to pass on.
        inputs: float arrays, what the layer is called with.
        weights: int. How many weight tensors it must own.
    """
    layer = make()
    y = np.asarray(layer(*inputs))
    _check_twin(layer, y, inputs, weights)
    _check_sizes(layer, y, inputs)
    _check_precision(make, layer, y, inputs, result=None)


def check_model(make, images, folder, weights):
    """Hold a model to the common checks.

    Args:
        make: callable returning a fresh model; takes `**kwargs` to pass on.
        images: float array, what the model is called with.
        folder: where its files may go.
        weights: int. How many weight tensors it must own.
    """
    model = make()
    y = np.asarray(model(images))
    _check_twin(model, y, (images,), weights)
    _check_sizes(model, y, (images,))
    _check_precision(make, model, y, (images,), result="float32")
    _check_files(model, y, images, folder)

    # Every weight has one name of its own, that says its role.
    named = named_weights(model)
    assert len(named) == len({id(w) for w in named.values()}) == weights


def check_arguments(cls, *configs):
    """Every optional argument was away from its default in one of `configs`.

    Keras saves default arguments where a class forgets to keep one: only a round trip
    with other values can tell.
    """
    optional = {
        name: p.default
        for name, p in inspect.signature(cls.__init__).parameters.items()
        if p.default is not p.empty
    }
    away = {name for c in configs for name, value in c.items() if value != optional.get(name)}
    assert optional.keys() - away == set()


def set_weights(layer, seed=0):
    """Give each weight some value, so that none is zero or one by default."""
    rng = np.random.default_rng(seed)
    for w in layer.weights:
        low, high = (0.5, 1.5) if w.name in ("gamma", "moving_variance") else (-0.5, 0.5)
        w.assign(rng.uniform(low, high, w.shape))


def _plain(layer):
    """The configuration as a file holds it, where a tuple is a list."""
    return json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))["config"]


def _promise(y, inputs):
    """The shapes of inputs of unknown sizes, and that of the answer to them."""
    shapes = [(None,) * (x.ndim - 1) + x.shape[-1:] for x in inputs]
    # An answer with one axis more has one more that is known: a distribution per channel.
    known = max(1, y.ndim - inputs[0].ndim + 1)
    return shapes, (None,) * (y.ndim - known) + y.shape[-known:]


def _check_twin(layer, y, inputs, weights):
    # It can be described, also in JSON, and rebuilt from the description.
    description, plain = keras.saving.serialize_keras_object(layer), _plain(layer)
    twin = keras.saving.deserialize_keras_object(json.loads(json.dumps(description)))
    assert type(twin) is type(layer)
    assert _plain(twin) == plain
    twin = type(layer).from_config(layer.get_config())
    assert _plain(twin) == plain

    # The twin, made of unknown sizes, promises the size that it gives.
    shapes, promised = _promise(y, inputs)
    assert twin(*map(keras.KerasTensor, shapes)).shape == promised
    # It holds the same weights, and then gives the same answer.
    assert (len(twin.weights), len(layer.weights)) == (weights, weights)
    twin.set_weights(layer.get_weights())
    _check_equal(twin(*inputs), y)


def _check_sizes(layer, y, inputs):
    # The size it promises is the size it gives, also when sizes are unknown.
    shapes, promised = _promise(y, inputs)
    if not isinstance(layer, keras.Model):
        assert tuple(layer.compute_output_shape(*(x.shape for x in inputs))) == y.shape
        assert tuple(layer.compute_output_shape(*shapes)) == promised

    # A graph traced for unknown sizes computes the same.
    signature = [tf.TensorSpec(shape, "float32") for shape in shapes]
    graph = tf.function(layer.__call__, input_signature=signature, autograph=False)
    _check_equal(graph(*inputs), y)


def _check_precision(make, layer, y, inputs, result):
    # Every part computes in the precision it was asked for, and comes near the answer.
    for policy, (dtype, tolerance) in HALF.items():
        half = make(dtype=policy)
        half.build(*(x.shape for x in inputs))
        half.set_weights(layer.get_weights())
        answer = half(*inputs)
        assert keras.backend.standardize_dtype(answer.dtype) == (result or dtype)
        assert {w.dtype for w in half.weights} <= {"float32"}
        answer = np.asarray(keras.ops.cast(answer, "float32"))
        np.testing.assert_allclose(answer, y, rtol=0, atol=tolerance * np.abs(y).max())


def _check_equal(found, y):
    # Relative to the largest value: some networks begin with answers of 1e-7.
    np.testing.assert_allclose(found, y, rtol=1e-5, atol=1e-5 * np.abs(y).max())


def _check_files(model, y, images, folder):
    # A file brings back the model with its arguments, and a weight file its weights.
    model.save(folder / "model.keras")
    back = keras.saving.load_model(folder / "model.keras")
    assert _plain(back) == _plain(model)
    _check_equal(back(images), y)

    model.save_weights(folder / "model.weights.h5")
    back.set_weights([np.zeros_like(w) for w in back.get_weights()])
    back.load_weights(folder / "model.weights.h5")
    for found, expected in zip(back.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(found, expected)
    _check_equal(back(images), y)
