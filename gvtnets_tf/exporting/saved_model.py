"""A SavedModel as TensorFlow Serving wants it: signatures, and requests to warm it up."""

import numpy as np
import tensorflow as tf

from gvtnets_tf.checks import import_optional

RAW, NORMALIZED = "serving_default", "normalized"  # signatures
INPUT = "image"
REQUESTS = "assets.extra/tf_serving_warmup_requests"  # the name that the server looks for


def save(path, model, signatures):
    """Write a SavedModel that needs none of this package.

    Args:
        path: folder to make.
        model: the Keras model whose variables the graphs use.
        signatures: mapping from name to `tf.function`. The first is also the attribute
            `serve`, which Keras' `TFSMLayer` calls by default.
    """
    # Only the variables: a Keras model would be saved with functions that need its classes.
    held = tf.Module()
    held.held = [variable.value for variable in model.variables]
    held.serve = next(iter(signatures.values()))
    tf.saved_model.save(held, str(path), signatures=signatures)


def check_shapes(shapes, axes):
    """Return shapes of warm-up requests as tuples of int.

    Args:
        shapes: sequence of shapes, one int per letter of `axes` each.
        axes: str. Spatial axes of an image, e.g. `"ZYX"`.

    Raises:
        ModuleNotFoundError: if there are shapes, and the protos of the server are not installed.
        ValueError: naming the shape that does not fit.
    """
    if not shapes:
        return []
    import_optional("tensorflow_serving.apis", "serving")
    for shape in shapes:
        sizes = np.asarray(shape)
        # One voxel has no spread to be normalized by.
        if sizes.shape != (len(axes),) or sizes.min() < 1 or sizes.prod() < 2:
            raise ValueError(
                f"A shape of `warm_up` has one size in voxels per axis of {axes}, and more than "
                f"one voxel. Received: {shape!r}."
            )
    return [tuple(map(int, shape)) for shape in shapes]


def warm_up(version, shapes, channels):
    """Write requests that the server answers itself before it says that it is ready.

    Args:
        version: folder of a SavedModel.
        shapes: sequence of spatial shapes in voxels, a request each.
        channels: int. Channels of the input.

    Reference:
        https://www.tensorflow.org/tfx/serving/saved_model_warmup
    """
    path = version / REQUESTS
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for shape in shapes:
            writer.write(_log(_counts((1, *shape, channels))).SerializeToString())


def _counts(shape):
    """Camera counts of no image in particular, but not constant."""
    return np.random.default_rng(0).poisson(100, shape).astype(np.float32)


def _log(image):
    apis = "tensorflow_serving.apis"
    log = import_optional(f"{apis}.prediction_log_pb2", "serving").PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = RAW
    request.inputs[INPUT].CopyFrom(tf.make_tensor_proto(image))
    return log
