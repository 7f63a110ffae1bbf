"""`gvtnets`: one command per thing a microscopist wants done."""

import argparse
import importlib
import os
import sys
import traceback
import warnings
from pathlib import Path

from gvtnets_tf import __version__

RECIPE_FLAGS = ("preset", "patch", "batch", "steps", "seed", "select")
DATA_FLAGS = ("inputs", "targets", "axes", "input_channels", "target_channels", "pair_by")


def train(args):
    """Train a network by a recipe, or by a preset and two globs."""
    _start_tensorflow()
    from gvtnets_tf.recipe import Recipe
    from gvtnets_tf.training import train
    from gvtnets_tf.zoo import load

    given, data = _given(args, RECIPE_FLAGS), _given(args, DATA_FLAGS)
    if args.recipe is not None and (given or data):
        raise ValueError(
            f"A recipe says everything; the flags {', '.join([*given, *data])} would be ignored. "
            f"Write them into {args.recipe}, or leave the recipe out."
        )
    if args.recipe is None and not ("preset" in given and {"inputs", "targets"} <= data.keys()):
        raise ValueError("Give a recipe, or --preset with --inputs and --targets.")
    recipe = Recipe.load(args.recipe) if args.recipe else Recipe.parse({**given, "data": data})
    start = load(args.start).model if args.start else None
    print(
        train(
            recipe, args.out, resume=args.resume, start=start, tensorboard=args.tensorboard,
            deterministic=args.deterministic, force=args.force,
        )
    )  # fmt: skip


def predict(args):
    """Predict one image, or many, with a trained network."""
    from gvtnets_tf.data.pairs import expand
    from gvtnets_tf.prediction.files import predict

    expand(args.input)  # a wrong name need not wait for TensorFlow
    _start_tensorflow()
    written = predict(
        args.input, args.model, args.out, axes=args.axes, input_channels=args.input_channels,
        dtype=args.dtype, uncertainty=args.uncertainty, precision=args.precision,
        resume=args.resume, force=args.force, tile=_one(args.tile), whole=args.whole,
        overlap=_one(args.overlap), blend=args.blend, max_memory=args.max_memory, batch=args.batch,
    )  # fmt: skip
    print("\n".join(map(str, written)))


def evaluate(args):
    """Score predictions against targets, with a table and figures."""
    from gvtnets_tf.evaluation import evaluate

    report = evaluate(
        args.predictions, args.targets, args.out, args.baseline, axes=args.axes,
        target_channels=args.target_channels, regions=_regions(args.region),
        inputs=args.inputs, force=args.force,
    )  # fmt: skip
    print(report.json() if args.json else report)


def check_pairs(args):
    """Look for pairs that do not belong together, and say how."""
    from gvtnets_tf.data.pairs import check_pairs, match

    pairs = match(args.inputs, args.targets, pair_by=args.pair_by)
    found = check_pairs(pairs, args.axes, args.input_channels, args.target_channels)
    for finding in found:
        print(f"{finding.level}: {finding.pair[0]} and {finding.pair[1]}: {finding.message}")
    print(f"{len(pairs)} pairs, {len(found)} findings")
    if any(finding.level == "error" for finding in found):
        raise ValueError("Some pairs cannot be used: see the lines above.")


def demo(args):
    """Denoise a simulated stack with the shipped network, beside plain baselines."""
    from gvtnets_tf.files import check_free

    check_free(args.out, args.force)
    _start_tensorflow()
    from gvtnets_tf.demonstration import demo, show

    print(show(demo(args.out, args.force)))
    print(args.out)


def convert(args):
    """Turn a published checkpoint into a model folder."""
    from gvtnets_tf.files import check_free

    if (args.kind == "tf1") != bool(args.preset):
        raise ValueError(
            "--preset says which released checkpoint it is: give it with tf1, and only there."
        )
    check_free(args.out, args.force)
    _start_tensorflow()
    from gvtnets_tf.zoo.convert import convert_fnet, convert_tf1

    options = {"force": args.force}
    if args.normalize is not None:
        options["normalize"] = args.normalize
    if args.kind == "tf1":
        print(convert_tf1(args.source, args.out, args.preset, **options))
    else:
        print(convert_fnet(args.source, args.out, **options))


def export(args):
    """Write a network in a format that other programs run."""
    from gvtnets_tf.files import check_free

    check_free(args.out, args.force)
    _start_tensorflow()
    from gvtnets_tf.exporting import export

    print(export(args.model, args.out, args.format, args.quantize, args.force))


def _start_tensorflow():
    """Import TensorFlow without the lines that it writes before its log level counts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            importlib.import_module("tensorflow")
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _regions(texts):
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


def _given(args, names):
    """Those of the flags that were given."""
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _one(values):
    """One number stands for all axes."""
    return values[0] if values and len(values) == 1 else values


def _channel(text):
    """A channel by its index or by its name."""
    return int(text) if text.isdigit() else text


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, as every command does."""

    def error(self, message):
        self.exit(2, f"gvtnets: {message}. See {self.prog} --help.\n")


def parser():
    """The words of the command line."""
    top = Parser(prog="gvtnets", description=__doc__)
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(metavar="COMMAND", dest="command")

    def command(function):
        name = function.__name__.replace("_", "-")
        p = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        p.add_argument("--debug", action="store_true", help="show the traceback of an error")
        p.set_defaults(run=function)
        return p

    _train_words(command(train))
    _predict_words(command(predict))
    _evaluate_words(command(evaluate))
    _pair_words(p := command(check_pairs), required=True)
    p.add_argument("--axes", help="axes of the files, e.g. ZYX")
    _demo_words(command(demo))
    _convert_words(command(convert))
    _export_words(command(export))
    return top


def _train_words(p):
    p.add_argument("recipe", type=Path, nargs="?", help="YAML file")
    p.add_argument("--out", type=Path, required=True, help="model folder to make")
    p.add_argument("--preset", help="published architecture, e.g. denoising")
    _pair_words(p, required=False)
    p.add_argument("--axes", help="axes of the files, e.g. ZYX")
    p.add_argument("--patch", type=int, nargs="+", metavar="VOXELS", help="e.g. 16 64 64")
    p.add_argument("--batch", type=int, help="patches per step")
    p.add_argument("--steps", type=int)
    p.add_argument("--seed", type=int)
    p.add_argument("--select", type=float, help="share kept for choosing the best weights")
    p.add_argument("--resume", action="store_true", help="go on with the run that --out holds")
    p.add_argument("--from", dest="start", metavar="MODEL", help="zoo name or folder to start from")
    p.add_argument("--tensorboard", action="store_true", help="write logs to OUT/tensorboard")
    p.add_argument("--deterministic", action="store_true", help="the same bits on every run")
    p.add_argument("--force", action="store_true", help="replace what is there")


def _predict_words(p):
    p.add_argument("input", help="file, quoted glob, folder or .zarr")
    p.add_argument("--model", required=True, help="zoo name or model folder")
    p.add_argument("--out", type=Path, required=True, help="file or folder to write")
    p.add_argument("--axes", help="axes of the input, e.g. ZYX")
    p.add_argument("--input-channels", type=_channel, nargs="+", metavar="C")
    size = p.add_mutually_exclusive_group()
    size.add_argument("--whole", action="store_true", help="at once, without asking if it fits")
    size.add_argument("--tile", type=int, nargs="+", metavar="VOXELS", help="e.g. 32 256 256")
    p.add_argument("--overlap", type=int, nargs="+", metavar="VOXELS", help="shared by tiles")
    p.add_argument("--blend", choices=["crop", "average", "ramp"], default="crop")
    p.add_argument("--max-memory", metavar="SIZE", help="e.g. 4GiB")
    p.add_argument("--batch", type=int, default=1, help="tiles or planes at a time")
    p.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    p.add_argument("--dtype", help="type of the result, e.g. uint16; float32 by default")
    p.add_argument("--uncertainty", action="store_true", help="also write the predicted scale")
    p.add_argument("--resume", action="store_true", help="write the missing results only")
    p.add_argument("--force", action="store_true", help="replace what is there")


def _evaluate_words(p):
    p.add_argument("--predictions", required=True, help="quoted glob or folder")
    p.add_argument("--targets", required=True, help="quoted glob or folder: the truth")
    p.add_argument("--baseline", help="quoted glob or folder: another method")
    p.add_argument("--inputs", help="quoted glob or folder: shown in the figures")
    p.add_argument("--out", type=Path, help="folder for the table and the figures")
    p.add_argument("--axes", help="axes of the files, in place of what they say")
    p.add_argument("--target-channels", type=_channel, nargs="+", metavar="C")
    p.add_argument("--region", action="append", metavar="AXIS:START:STOP", help="score only this")
    p.add_argument("--json", action="store_true", help="print the scores as JSON")
    p.add_argument("--force", action="store_true", help="replace what is there")


def _pair_words(p, required):
    p.add_argument("--inputs", required=required, help="quoted glob or folder")
    p.add_argument("--targets", required=required, help="quoted glob or folder")
    p.add_argument("--pair-by", choices=["name", "order"], default="name" if required else None)
    p.add_argument("--input-channels", type=_channel, nargs="+", metavar="C")
    p.add_argument("--target-channels", type=_channel, nargs="+", metavar="C")


def _demo_words(p):
    p.add_argument("--out", type=Path, default=Path("gvtnets-demo"), help="folder to write")
    p.add_argument("--force", action="store_true", help="replace what is there")


def _convert_words(p):
    p.add_argument("kind", choices=["tf1", "fnet"], help="TensorFlow 1 (GVTNets), or pytorch_fnet")
    p.add_argument("source", help="prefix of a TensorFlow checkpoint; .npz, .safetensors, .pt, .p")
    p.add_argument("--preset", help="of tf1: label_free, denoising or projection")
    p.add_argument("--out", type=Path, required=True, help="model folder to make")
    p.add_argument(
        "--normalize", choices=["none", "zscore", "percentile"], help="as published by default"
    )
    p.add_argument("--force", action="store_true", help="replace what is there")


def _export_words(p):
    p.add_argument("model", help="zoo name or model folder")
    p.add_argument("--format", required=True, help="savedmodel, litert (or tflite) or onnx")
    p.add_argument("--out", type=Path, required=True, help="folder to make")
    p.add_argument("--quantize", help="of litert: float16, for a file of half the size")
    p.add_argument("--force", action="store_true", help="replace what is there")


def _say(message):
    """Say something in one line on standard error."""
    print(f"gvtnets: {' '.join(str(message).split())}", file=sys.stderr)


def main(argv=None):
    """Run one command; exit with 2 and one line where something is wrong."""
    words = parser()
    args = words.parse_args(argv)
    if args.command is None:
        words.print_help()
        return
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say(f"warning: {message}")
            args.run(args)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if args.debug:
            traceback.print_exc()
        _say(error)  # The library has already said what is wrong and what to do.
        sys.exit(2)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(130)
