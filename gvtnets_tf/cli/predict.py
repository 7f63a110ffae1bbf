"""Predict one image, or many, with a trained network."""

from pathlib import Path

from gvtnets_tf.cli.arguments import parse_channel, scalar_or_list, start_tensorflow

FLAGS = (
    "axes", "input_channels", "voxel_size", "resample", "frames", "statistics", "gif", "gif_plane",
    "whole", "blend", "labels", "estimate", "max_memory", "batch", "precision", "dtype",
    "uncertainty", "resume", "force",
)  # fmt: skip


def add_arguments(parser):
    parser.add_argument("input", help="file, quoted glob, folder or .zarr")
    parser.add_argument(
        "--model", action="append", required=True,
        help="zoo name or model folder; several, each after its own --model, go into one image",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="file or folder to write")
    parser.add_argument("--axes", help="axes of the input, e.g. ZYX")
    parser.add_argument("--input-channels", type=parse_channel, nargs="+", metavar="C")
    parser.add_argument(
        "--voxel-size", type=float, nargs="+", metavar="UM",
        help="micrometers along Z, Y and X, in place of what the input says",
    )  # fmt: skip
    parser.add_argument("--resample", action="store_true", help="to the model's voxels, and back")
    parser.add_argument("--average-flips", action="store_true", help="mean over 4 mirror images")
    parser.add_argument(
        "--frames", metavar="A:B:STEP", help="of a series, e.g. ::2, or --frames=-5:"
    )
    parser.add_argument("--statistics", choices=["frame", "series"], default="frame")
    parser.add_argument("--gif", type=Path, metavar="FILE", help="also write one plane of a series")
    parser.add_argument(
        "--gif-plane", type=int, metavar="N", help="of Z; the central one by default"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--whole", action="store_true", help="at once, without asking if it fits")
    size.add_argument("--tile", type=int, nargs="+", metavar="VOXELS", help="e.g. 32 256 256")
    parser.add_argument("--overlap", type=int, nargs="+", metavar="VOXELS", help="shared by tiles")
    parser.add_argument(
        "--blend", choices=["crop", "average", "ramp"], help="crop by default; of windows, average"
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="NAME", help="channels of the result to predict"
    )
    parser.add_argument(
        "--estimate", choices=["median", "mean"], default="median", help="of classes"
    )
    parser.add_argument("--max-memory", metavar="SIZE", help="e.g. 4GiB")
    parser.add_argument("--batch", type=int, default=1, help="tiles or planes at a time")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--dtype", help="type of the result, e.g. uint16; float32 by default")
    parser.add_argument("--uncertainty", action="store_true", help="also write the predicted scale")
    parser.add_argument(
        "--resume", action="store_true", help="go on: write the missing results only"
    )
    parser.add_argument("--force", action="store_true", help="replace what is there")


def run(args):
    from gvtnets_tf.prediction.files import predict
    from gvtnets_tf.prediction.many import predict_many
    from gvtnets_tf.prediction.outputs import found

    found(args.input)  # a wrong name need not wait for TensorFlow
    start_tensorflow()
    how = {name: getattr(args, name) for name in FLAGS}
    how |= {
        "tile": scalar_or_list(args.tile),
        "overlap": scalar_or_list(args.overlap),
        "flips": args.average_flips,
    }
    verb, model = (predict_many, args.model) if args.model[1:] else (predict, args.model[0])
    written = verb(args.input, model, args.out, **how)
    print("\n".join(map(str, written)))
