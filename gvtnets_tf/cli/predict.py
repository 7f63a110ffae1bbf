"""Predict one image, or many, with a trained network."""

import sys
from pathlib import Path

from gvtnets_tf.cli.arguments import CHANNELS, collect_given, logger, start_keras

OTHERS = ("gif", "gif_plane", "resume", "force", "strict")  # flags that are no option of results
SOME_FAILED = 3  # exit status


def add_arguments(parser):
    """Add the flags; those of an option of `PredictionOptions` have its name."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="file, quoted glob, folder or .zarr")
    add(
        "--model", action="append", required=True,
        help="zoo name or model folder; several, each after its own --model, go into one image",
    )  # fmt: skip
    add("--out", type=Path, required=True, help="file or folder to write")
    add("--axes", help="axes of the input, e.g. ZYX")
    add("--input-channels", **CHANNELS)
    add("--voxel-size", type=float, nargs="+", metavar="UM", help="along Z, Y, X; else the file's")
    add("--resample", action="store_true", help="to the model's voxels, and back")
    add("--frames", metavar="A:B:STEP", help="of a series, e.g. ::2, or --frames=-5:")
    add("--statistics", choices=["frame", "series"], default="frame")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--whole", action="store_true", help="at once, without asking if it fits")
    size.add_argument("--tile", type=int, nargs="+", metavar="VOXELS", help="e.g. 32 256 256")
    add("--overlap", type=int, nargs="+", metavar="VOXELS", help="shared by tiles")
    add("--blend", choices=["crop", "average", "ramp"], help="crop by default; of windows, average")
    add("--max-memory", metavar="SIZE", help="e.g. 4GiB")
    add("--batch-size", type=int, default=1, metavar="N", help="tiles or planes at a time")
    add(
        "--denormalize", choices=["input", "stored", "none"], help="units of the result: of the "
        "input, of the training targets, or none; by default as the model says",
    )  # fmt: skip
    add("--output-channels", **CHANNELS, help="names, or counted from 0")
    add("--flip-average", action="store_true", help="mean over 4 mirror images")
    add("--estimate", choices=["median", "mean"], default="median", help="of classes")
    add("--precision", choices=["float32", "bfloat16"], default="float32")
    add("--dtype", help="type of the result, e.g. uint16; float32 by default")
    add("--uncertainty", action="store_true", help="also write the predicted scale")
    add("--gif", type=Path, metavar="FILE", help="also write one plane of a series")
    add("--gif-plane", type=int, metavar="N", help="of Z; the central one by default")
    add("--resume", action="store_true", help="go on: write the missing results only")
    add("--force", action="store_true", help="replace results that are there")
    add("--strict", action="store_true", help="stop at the first input that fails or has gaps")


def run(args):
    from gvtnets_tf.data.sources import find

    sources = find(args.inputs)  # a wrong name need not wait for Keras
    start_keras()
    from gvtnets_tf.prediction.files import Failures, predict
    from gvtnets_tf.prediction.options import PredictionOptions

    values = collect_given(args, PredictionOptions)
    for name in values.keys() & {"tile", "overlap"}:
        if len(values[name]) == 1:
            (values[name],) = values[name]  # one number stands for all axes
    others = {name: getattr(args, name) for name in OTHERS}
    failures = None
    try:
        written = predict(sources, args.model, args.out, PredictionOptions(**values), **others)
    except Failures as error:
        failures, written = error, error.written
    print(*written, sep="\n", end="\n" if written else "")
    if failures:
        logger.error(failures)
        sys.exit(SOME_FAILED)
