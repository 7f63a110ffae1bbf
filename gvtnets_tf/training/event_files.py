"""Numbers and images of a run for TensorBoard, written without TensorFlow."""

import io
import os
import time
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import PIL.Image

from gvtnets_tf.images.display import contrast_limits

PARTS = {"train": "", "validation": "val_"}  # folders, as Keras' own callback calls them


class EventFile:
    """A file of TensorBoard in `folder`, made at the first `append` and closed after each."""

    def __init__(self, folder: Path):
        self.path = folder / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"

    def append(self, step: int, values: Mapping[str, float | np.ndarray]) -> None:
        """Append numbers, and planes `(y, x)` of uint8, by name."""
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        summary = summary_pb2.Summary()
        for name, value in values.items():
            if np.ndim(value):
                png, (height, width) = io.BytesIO(), value.shape
                PIL.Image.fromarray(value).save(png, "PNG")
                image = summary_pb2.Summary.Image(
                    height=height, width=width, colorspace=1, encoded_image_string=png.getvalue()
                )
                summary.value.add(tag=name, image=image)
            else:
                summary.value.add(tag=name, simple_value=float(value))
        events = [event_pb2.Event(wall_time=time.time(), step=step, summary=summary)]
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            events.insert(0, event_pb2.Event(file_version="brain.Event:2"))
        with self.path.open("ab") as file:
            for event in events:
                RecordWriter(file).write(event.SerializeToString())


class Logs(keras.callbacks.Callback):
    """Write the numbers of each epoch, those of training and of validation apart."""

    def __init__(self, folder):
        super().__init__()
        self.files = {prefix: EventFile(folder / part) for part, prefix in PARTS.items()}

    def on_epoch_end(self, epoch, logs=None):
        values = {"": {"epoch_learning_rate": self.model.optimizer.learning_rate}, "val_": {}}
        for name, value in (logs or {}).items():
            prefix = "val_" if name.startswith("val_") else ""
            values[prefix][f"epoch_{name.removeprefix(prefix)}"] = value
        for prefix, numbers in values.items():
            if numbers:
                self.files[prefix].append(epoch, numbers)


class Images(keras.callbacks.Callback):
    """Show input, target and prediction of one patch of a validation batch."""

    def __init__(self, folder, batch):
        super().__init__()
        self.batch, self.file = batch, EventFile(folder)

    def on_epoch_end(self, epoch, logs=None):
        x, y = map(np.asarray, self.batch)
        prediction = np.asarray(self.model.predict_on_batch(x))
        if prediction.ndim > y.ndim:  # of a distribution, its most likely class
            prediction = prediction.argmax(-1)
        shown = {"input": x, "target": np.nan_to_num(y), "prediction": prediction}
        planes = {}
        for name, image in shown.items():
            plane = image[0, ..., 0]
            if plane.ndim > 2:
                plane = plane[len(plane) // 2]
            low, high = contrast_limits(plane if name == "input" else y)
            planes[name] = np.uint8(255 * np.clip((plane - low) / (high - low), 0, 1))
        self.file.append(epoch, planes)
