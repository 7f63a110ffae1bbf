"""Write a network in a format that other programs run."""

from pathlib import Path

from gvtnets_tf.cli.arguments import start_tensorflow


def add_arguments(parser):
    parser.add_argument("model", help="zoo name or model folder")
    parser.add_argument("--format", required=True, help="savedmodel, litert, onnx or bioimageio")
    parser.add_argument("--out", type=Path, required=True, help="folder to make, or a .zip of it")
    parser.add_argument(
        "--quantize", help="of litert: float16 for half the size; int8, planes only"
    )
    parser.add_argument(
        "--warm-up", type=int, nargs="+", action="append", metavar="VOXELS", help="of savedmodel: "
        "size of an image that the server answers as it starts, e.g. 32 256 256; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--author", action="append", metavar="NAME", help="of bioimageio; repeatable"
    )
    parser.add_argument("--force", action="store_true", help="replace what is there")


def run(args):
    from gvtnets_tf.atomic_files import check_writable

    check_writable(args.out, args.force)
    start_tensorflow()
    from gvtnets_tf.exporting.exporter import export

    print(
        export(
            args.model, args.out, args.format, args.quantize, args.force,
            warm_up=args.warm_up or (), authors=args.author or (),
        )
    )  # fmt: skip
