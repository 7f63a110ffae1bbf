"""Batches of patches for Keras. No other module of this room imports Keras or TensorFlow."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from gvtnets_tf.data.batches import TrainingBatches, ValidationBatches
from gvtnets_tf.data.training_pairs import TrainingPair

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

AHEAD = 2  # batches that are made while the network works; more would only take memory


def training_dataset(
    pairs: Sequence[TrainingPair], patch_size: Sequence[int], batch_size: int, steps: int,
    **options: Any,
) -> "tf.data.Dataset":  # fmt: skip
    """Draw random patches for training with TensorFlow, an epoch per pass.

    Arguments and errors are those of `TrainingBatches`, the batches those of its `read`; see
    `to_tf_dataset`.

    Examples:
        >>> import numpy as np
        >>> from gvtnets_tf import Image
        >>> noisy = Image(np.arange(400.0).reshape(20, 20), "YX")
        >>> pair = TrainingPair(noisy, noisy).measure("unit", "unit")
        >>> dataset = training_dataset([pair], (8, 8), batch_size=4, steps=2, axes="YX")
        >>> [tuple(x.shape) for x, y in dataset]
        [(4, 8, 8, 1), (4, 8, 8, 1)]
    """
    return to_tf_dataset(TrainingBatches(pairs, patch_size, batch_size, steps, **options))


def validation_dataset(
    pairs: Sequence[TrainingPair], patch_size: Sequence[int], batch_size: int, **options: Any
) -> "tf.data.Dataset":
    """Cut the fixed patches that cover each image, for TensorFlow, the same in each pass.

    Arguments and errors are those of `ValidationBatches`.

    Examples:
        >>> import numpy as np
        >>> from gvtnets_tf import Image
        >>> noisy = Image(np.arange(400.0).reshape(20, 20), "YX")
        >>> pair = TrainingPair(noisy, noisy).measure("unit", "unit")
        >>> dataset = validation_dataset([pair], (8, 8), batch_size=5, axes="YX")
        >>> [len(x) for x, y in dataset]
        [5, 4]
    """
    return to_tf_dataset(ValidationBatches(pairs, patch_size, batch_size, **options))


def to_py_dataset(batches: TrainingBatches | ValidationBatches) -> "keras.utils.PyDataset":
    """Hand batches to `fit` on any backend of Keras, without TensorFlow, an epoch per pass.

    The first pass is epoch `batches.first_epoch`; a pass of `fit` that was taken to its last batch
    is followed by the next epoch, one that was left early is begun again. Two batches are made
    ahead, also across the end of an epoch. Use it for one network, and call
    `fit(..., shuffle=False)`: patches are drawn at random anyway, and in another order batches
    cannot be made ahead.

    Examples:
        >>> import numpy as np
        >>> from gvtnets_tf import Image
        >>> noisy = Image(np.arange(400.0).reshape(20, 20), "YX")
        >>> pair = TrainingPair(noisy, noisy).measure("unit", "unit")
        >>> dataset = to_py_dataset(TrainingBatches([pair], (8, 8), 4, steps=2, axes="YX"))
        >>> [x.shape for x, y in dataset]
        [(4, 8, 8, 1), (4, 8, 8, 1)]
    """
    import keras

    class PatchDataset(keras.utils.PyDataset):
        def __init__(self):
            # One worker: threads of Keras begin before `on_epoch_begin`, and after an epoch that
            # was left early they give its batches in another order.
            super().__init__(workers=1)
            self.epoch = batches.first_epoch
            self.taken, self.looked = None, False
            self.pool, self.ahead = ThreadPoolExecutor(AHEAD, "patches"), {}

        def __len__(self):
            return len(batches)

        def __getitem__(self, step):
            count = self.epoch * len(self) + step
            self.ahead = ahead = {
                n: self.ahead.get(n) or self.pool.submit(batches.read, *divmod(n, len(self)))
                for n in range(count, count + 1 + AHEAD)
            }
            if self.taken is not None:
                self.taken.add(step)
            return ahead[count].result()

        def on_epoch_begin(self):
            self.taken = set()

        def on_epoch_end(self):
            # `fit` ends an epoch before it begins the first: it may have looked at a batch.
            if self.looked and self.taken is not None and len(self.taken) == len(self):
                self.epoch += 1
            self.taken, self.looked = None, True

    return PatchDataset()


def to_tf_dataset(batches: TrainingBatches | ValidationBatches) -> "tf.data.Dataset":
    """Hand batches to TensorFlow, made ahead, in order, an epoch per pass.

    The first pass is epoch `batches.first_epoch`; a pass that was taken to its last batch is
    followed by the next epoch, one that was left early (Keras may look at a batch to build a
    model) is begun again.

    Examples:
        >>> import numpy as np
        >>> from gvtnets_tf import Image
        >>> noisy = Image(np.arange(400.0).reshape(20, 20), "YX")
        >>> pair = TrainingPair(noisy, noisy).measure("unit", "unit")
        >>> len(to_tf_dataset(TrainingBatches([pair], (8, 8), 4, steps=2, axes="YX")))
        2
    """
    import tensorflow as tf

    reader, steps = batches.reader, len(batches)
    with tf.device("CPU"):
        upcoming = tf.Variable(batches.first_epoch, dtype=tf.int64, trainable=False)

    def plan(_):
        epoch = upcoming.read_value()
        return tf.data.Dataset.range(steps).map(lambda step: (epoch, step))

    def read(epoch, step):
        xy = tf.numpy_function(batches.read, [epoch, step], (tf.float32, tf.float32))
        return epoch, step, *map(tf.ensure_shape, xy, reader.batch_shapes(batches.batch_size))

    def take(epoch, step, x, y):
        # Runs when a batch is taken, not when it is made ahead of time.
        done = tf.cast(step + 1 == steps, tf.int64)
        upcoming.assign(tf.maximum(upcoming, epoch + done))
        return x, y

    # One call into Python per batch, two at a time: benchmarks/pipeline.py measures this
    # against a generator.
    parts = tf.data.Dataset.range(1).flat_map(plan)
    parts = parts.map(read, num_parallel_calls=AHEAD, deterministic=True).prefetch(AHEAD)
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False  # `take` would run too early
    count = tf.data.experimental.assert_cardinality(steps)
    return parts.map(take).apply(count).with_options(options)
