"""What a training run costs: steps per second, time to the end, memory."""

import sys
import time

import keras
import psutil

from gvtnets_tf.training.callbacks import tell

STEPS = 10  # that are timed


class TellCost(keras.callbacks.Callback):
    """Say once, after ten steps, how fast the run is, when it ends and what memory it takes.

    The first step of an epoch is not counted: it is traced, or waits for the validation before.
    So the time to the end is that of the steps alone.
    """

    def __init__(self, steps):
        super().__init__()
        self.left, self.times, self.before, self.memory = steps, [], None, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.before = None

    def on_train_batch_end(self, batch, logs=None):
        if len(self.times) == STEPS:
            return
        now = time.perf_counter()
        if self.before is not None:
            self.times.append(now - self.before)
        self.before, self.left = now, self.left - 1
        self.memory = max(self.memory, psutil.Process().memory_info().rss)
        if len(self.times) == STEPS:
            tell(self, describe_cost(sum(self.times) / STEPS, self.left, self.memory))


def describe_cost(seconds: float, steps: int, memory: int) -> str:
    """Describe a run by the seconds of a step, the steps to the end and bytes of memory.

    Examples:
        >>> describe_cost(0.25, 3400, 1_230_000_000)
        '4 steps/s, 14 min to the end, 1.2 GB'
    """
    left = seconds * steps
    minutes = f"{left / 60:.0f} min" if left < 6000 else f"{left / 3600:.1f} h"
    end = f"{left:.0f} s" if left < 100 else minutes
    text = f"{1 / seconds:.3g} steps/s, {end} to the end, {memory / 1e9:.1f} GB"
    accelerator = measure_accelerator()
    return text + (f", {accelerator / 1e9:.1f} GB of the accelerator" if accelerator else "")


def measure_accelerator() -> int:
    """Return the most bytes of the first accelerator that this process had; 0 without one."""
    backend = keras.backend.backend()
    library = sys.modules[backend]
    if backend == "tensorflow":
        gpu = library.config.list_logical_devices("GPU")
        return library.config.experimental.get_memory_info("GPU:0")["peak"] if gpu else 0
    if backend == "torch":
        return library.cuda.max_memory_allocated() if library.cuda.is_available() else 0
    return (library.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)
