"""Write a network in a format that other programs run."""

from pathlib import Path

from gvtnets_tf.atomic_files import check_writable
from gvtnets_tf.cli.arguments import start_keras


def add_arguments(parser):
    add = parser.add_argument
    add("model", help="zoo name or model folder")
    add("--format", required=True, help="savedmodel, litert, onnx or bioimageio")
    add("--out", type=Path, required=True, help="folder to make, or a .zip of it")
    add("--quantize", help="of litert: float16 for half the size; int8, planes only")
    add(
        "--warm-up", type=int, nargs="+", action="append", metavar="VOXELS", help="of savedmodel: "
        "size of an image that the server answers as it starts, e.g. 32 256 256; repeatable",
    )  # fmt: skip
    add("--author", action="append", metavar="NAME", help="of bioimageio; repeatable")
    add("--force", action="store_true", help="replace what is there")


def run(args):
    check_writable(args.out, args.force)
    start_keras()
    from gvtnets_tf.exporting.backends import check_backend

    check_backend()  # the rest of the room cannot be imported without TensorFlow
    from gvtnets_tf.exporting.exporter import export

    options = {"warm_up": args.warm_up or (), "authors": args.author or ()}
    print(export(args.model, args.out, args.format, args.quantize, args.force, **options))
