"""Flags, logging and the start of Keras, shared by the commands."""

import contextlib
import dataclasses
import importlib
import logging
import os
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

logger = logging.getLogger("gvtnets_tf")


def start_keras() -> None:
    """Import Keras with its backend, without the lines that TensorFlow prints as it starts.

    The backend is that of `KERAS_BACKEND`, or of the user's Keras settings; else TensorFlow.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            importlib.import_module("keras")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Keras, or the backend it is set to, is not installed ({error}): install it with pip, "
            f"or set KERAS_BACKEND to the one of tensorflow, jax and torch that is."
        ) from error
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def parse_regions(texts):
    """Read `X:540:720` as `{"X": (540, 720)}`."""
    regions = {}
    for text in texts or ():
        try:
            axis, start, stop = text.split(":")
            regions[axis.upper()] = (int(start), int(stop))
        except ValueError as error:
            raise ValueError(
                f"--region must be AXIS:START:STOP, e.g. X:540:720. Received: {text!r}."
            ) from error
    return regions


def collect_given(args: Namespace, cls: type) -> dict:
    """Collect the flags that were given and have the name of a field of a dataclass."""
    names = {field.name for field in dataclasses.fields(cls)}
    return {k: v for k, v in vars(args).items() if k in names and v is not None}


def parse_channel(text):
    """Read the index of a channel as int, or its name."""
    return int(text) if text.isdigit() else text


CHANNELS = {"type": parse_channel, "nargs": "+", "metavar": "C"}


def add_pair_arguments(parser: ArgumentParser, required: bool) -> None:
    """Add the flags that name pairs of images and their channels."""
    add = parser.add_argument
    add("--inputs", required=required, help="quoted glob or folder")
    add("--targets", required=required, help="quoted glob or folder")
    add("--pair-by", choices=["name", "order"], default="name" if required else None)
    add("--input-channels", **CHANNELS)
    add("--target-channels", **CHANNELS)


class OneLineHandler(logging.StreamHandler):
    """Write a message as one line that begins with the name of the program."""

    def format(self, record):
        return f"gvtnets: {' '.join(super().format(record).split())}"

    def emit(self, record):
        bars = sys.modules.get("tqdm")  # which a message must not follow on one line
        with bars.tqdm.external_write_mode(self.stream) if bars else contextlib.nullcontext():
            super().emit(record)


@contextlib.contextmanager
def log_to_stderr() -> Iterator[None]:
    """Write log messages of the package, and warnings of Python, to standard error."""
    handler, level = OneLineHandler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: logger.warning(f"warning: {message}")
            yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
