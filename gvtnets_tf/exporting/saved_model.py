"""A SavedModel as TensorFlow Serving wants it: signatures, and requests to warm it up."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from gvtnets_tf.checks import import_optional

RAW, NORMALIZED = "serving_default", "normalized"  # signatures
INPUT = "image"
REQUESTS = "assets.extra/tf_serving_warmup_requests"  # the name that the server looks for


def save(path: str | Path, model: keras.Model, signatures: Mapping[str, Callable]) -> None:
    """Write a SavedModel that needs none of this package, of graphs that use a model's variables.

    `signatures` maps names to `tf.function`s. The first is also the attribute `serve`, which
    Keras' `TFSMLayer` calls by default.
    """
    # Only the variables: a Keras model would be saved with functions that need its classes.
    module = tf.Module()
    module.variables_of_model = [variable.value for variable in model.variables]
    module.serve = next(iter(signatures.values()))
    tf.saved_model.save(module, str(path), signatures=signatures)


def check_shapes(shapes: Sequence[Sequence[int]], axes: str) -> None:
    """Check that each shape of a warm-up request has a size in voxels per letter of `axes`."""
    if shapes:
        import_optional("tensorflow_serving.apis", "serving")
    for shape in shapes:
        sizes = np.asarray(shape)
        # One voxel has no spread to be normalized by.
        if sizes.shape != (len(axes),) or sizes.min() < 1 or sizes.prod() < 2:
            raise ValueError(
                f"A shape of `warm_up` has one size in voxels per axis of {axes}, and more than "
                f"one voxel. Received: {shape!r}."
            )


def write_requests(version: Path, shapes: Sequence[Sequence[int]], channels: int) -> None:
    """Write requests that the server answers itself before it says that it is ready.

    `version` is the folder of the SavedModel, and each of the spatial shapes a request. See
    https://www.tensorflow.org/tfx/serving/saved_model_warmup
    """
    protos = import_optional("tensorflow_serving.apis.prediction_log_pb2", "serving")
    path = version / REQUESTS
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for shape in shapes:
            # Camera counts of no image in particular, but not constant.
            image = np.random.default_rng(0).poisson(100, (1, *shape, channels))
            log = protos.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = RAW
            request.inputs[INPUT].CopyFrom(tf.make_tensor_proto(image.astype(np.float32)))
            writer.write(log.SerializeToString())
