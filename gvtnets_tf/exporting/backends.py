"""What export asks of Keras; unlike the rest of this room, it needs no TensorFlow itself."""

import keras


def check_backend() -> None:
    """Raise `ValueError` on another backend than TensorFlow, whose graphs are what is written."""
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"Networks are exported from the TensorFlow backend: set KERAS_BACKEND=tensorflow. "
            f"Received: {keras.backend.backend()!r}."
        )
