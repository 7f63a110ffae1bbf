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


class ReadAhead:
    """Batches that threads read ahead, in their order, up to the end of an epoch."""

    def __init__(self, batches: TrainingBatches | ValidationBatches):
        self.batches, self.pool, self.ahead = batches, ThreadPoolExecutor(AHEAD, "patches"), {}

    def read(self, epoch: int, step: int) -> tuple:
        """Wait for one batch, begun before or not; a reader's error comes with its own batch."""
        # Whatever the order, no more than these are kept.
        places = [(epoch, n) for n in range(step, min(step + 1 + AHEAD, len(self.batches)))]
        self.ahead = ahead = {
            place: self.ahead.get(place) or self.pool.submit(self.batches.read, *place)
            for place in places
        }
        return ahead[epoch, step].result()


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
    ahead. Use it for one network, and call
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
            self.reader, self.epoch = ReadAhead(batches), batches.first_epoch
            self.taken, self.looked = None, False

        def __len__(self):
            return len(batches)

        def __getitem__(self, step):
            if self.taken is not None:
                self.taken.add(step)
            return self.reader.read(self.epoch, step)

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

    ahead, steps, epoch = ReadAhead(batches), len(batches), batches.first_epoch

    def read(step):
        nonlocal epoch
        xy = ahead.read(epoch, int(step))
        epoch += int(step) + 1 == steps
        return xy

    def take(step):
        xy = tf.numpy_function(read, [step], (tf.float32, tf.float32))
        return tuple(map(tf.ensure_shape, xy, batches.reader.batch_shapes(batches.batch_size)))

    # TensorFlow makes nothing ahead itself. It would wait for its calls into Python as the program
    # ends, also for those that cannot end any more, as those into Zarr, whose threads have gone.
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False
    return tf.data.Dataset.range(steps).map(take).with_options(options)
