"""Callbacks of a training run: stop, keep the best weights, back up."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras

from gvtnets_tf.atomic_files import atomic_rewrite, write_csv
from gvtnets_tf.checks import check_at_least, read_json
from gvtnets_tf.zoo import model_folder

STATE, PROGRESS, HISTORY = "state-{}.h5", "progress.json", "history.csv"
LARGEST_PROGRESS = 2**26  # bytes; an epoch has a hundred
logger = logging.getLogger("gvtnets_tf")


@dataclass(frozen=True)
class Progress:
    """Where a run stands, as `progress.json` holds it; `None` is a number that is not finite."""

    epoch: int
    steps: int  # of each epoch
    best: float | None
    seed: int
    history: tuple[Mapping[str, int | float | None], ...]

    def __post_init__(self):
        check_at_least("epoch", self.epoch, 1)
        check_at_least("steps", self.steps, 1)


class StopOnNaN(keras.callbacks.Callback):
    """Raise `ValueError` as soon as the loss is not finite, with what can be done."""

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            rate = float(self.model.optimizer.learning_rate)
            raise ValueError(
                f"The loss became {loss} at step {batch + 1} of an epoch, at a learning rate of "
                f"{rate:g}: lower `learning_rate`, or look for extreme values in the images with "
                f"`gvtnets check-pairs`. Weights of earlier epochs are kept."
            )


class Begin(keras.callbacks.Callback):
    """Call a function at the end of the first step: that the run can work is proved by then."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_train_batch_end(self, batch, logs=None):
        if self.function:
            self.function()
        self.function = None


class KeepBest(keras.callbacks.Callback):
    """Write the model folder when `monitor` (if `None`, always) is better than `best` so far."""

    def __init__(self, path, card, best=None, monitor="val_loss"):
        super().__init__()
        self.path, self.card, self.best, self.monitor = path, card, best, monitor

    def on_epoch_end(self, epoch, logs=None):
        chosen = {"epoch": epoch + 1}
        if self.monitor:
            score = float(logs[self.monitor])
            if not is_better(self.monitor, score, self.best):
                return
            self.best = chosen[self.monitor] = score
        card = self.card.changed(training={**self.card.training, "best": chosen})
        model_folder.save_model(self.path, self.model, card)


def is_better(monitor: str, score: float, best: float | None) -> bool:
    """Tell whether a monitored number is better than the best so far, if there is one."""
    if best is None or not math.isfinite(score):
        return math.isfinite(score)
    return score > best if monitor == "val_r" else score < best


def tell(callback: keras.callbacks.Callback, text: str) -> None:
    """Say something to who is watching, on a line of its own."""
    if (callback.params or {}).get("verbose"):
        print(flush=True)  # ends the line of the progress bar, which is drawn again
    logger.info(text)


class StopEarly(keras.callbacks.Callback):
    """Stop after `patience` epochs without a better `monitor` in the rows of the history.

    It counts in the history, so that a run that is resumed stops where it would have stopped.
    """

    def __init__(self, rows, monitor, patience):
        super().__init__()
        self.rows, self.monitor, self.patience = rows, monitor, patience

    def is_over(self) -> bool:
        """Tell whether the run is over, and say so."""
        best, last = None, 0
        for count, row in enumerate(self.rows, 1):
            if is_better(self.monitor, row[self.monitor], best):
                best, last = row[self.monitor], count
        waited = len(self.rows) - last
        if waited >= self.patience:
            text = (
                f"the run ends early: {self.monitor} was best in epoch {last} of {len(self.rows)}"
            )
            tell(self, text)
        return waited >= self.patience

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = self.is_over()


class Backup(keras.callbacks.Callback):
    """Write what a run needs to continue into `resume/`, and the history, after its `rows`."""

    def __init__(self, path, keep, steps, rows, seed=0):
        super().__init__()
        self.path, self.keep, self.steps = path, keep, steps
        self.rows, self.seed = rows, seed

    def on_epoch_end(self, epoch, logs=None):
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        self.rows.append({"epoch": epoch + 1, **numbers})
        place = self.path / "resume"
        place.mkdir(exist_ok=True)
        new = place / STATE.format(epoch + 1)
        model_folder.write_weights(new, collect_state(self.model))
        rows = [{name: _finite(value) for name, value in row.items()} for row in self.rows]
        progress = {"epoch": epoch + 1, "steps": self.steps, "best": self.keep.best}
        # From here on the new state counts: a kill finds the one or the other, whole.
        with atomic_rewrite(place / PROGRESS) as beside:
            beside.write_text(json.dumps({**progress, "seed": self.seed, "history": rows}))
        for old in {*place.iterdir()} - {new, place / PROGRESS}:  # also what a kill left
            old.unlink()
        write_csv(self.path / HISTORY, self.rows)


def collect_state(model: keras.Model) -> dict[str, keras.Variable]:
    """Number every variable that the next step depends on: weights, optimizer, dropout seeds."""
    passing = {id(v) for v in model.metrics_variables}
    variables = [*(v for v in model.variables if id(v) not in passing), *model.optimizer.variables]
    return {f"{i:04d}": variable for i, variable in enumerate(variables)}


def _finite(number):
    """Return a number as JSON has it; `None` for NaN and infinity."""
    return number if math.isfinite(number) else None


def restore(path: Path, model: keras.Model) -> dict:
    """Set a network and its optimizer to the end of a run's last epoch; return its progress.

    `ValueError` names the file of `resume/` that was damaged, and what is wrong in it.
    """
    place = path / "resume"
    if not (place / PROGRESS).is_file():
        raise FileNotFoundError(
            f"{path} holds no run to continue: it stopped before its first epoch was over. Begin "
            f"again with --force (`force=True`)."
        )
    progress = read_json(place / PROGRESS, Progress, LARGEST_PROGRESS)
    if not model.optimizer.built:  # else one that scales the loss would count its scale twice
        model.optimizer.build(model.trainable_variables)
    model_folder.read_weights(place / STATE.format(progress.epoch), collect_state(model))
    rows = [{k: math.nan if v is None else v for k, v in row.items()} for row in progress.history]
    return {**vars(progress), "history": rows}
