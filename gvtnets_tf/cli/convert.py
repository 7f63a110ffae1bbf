"""Turn a published checkpoint into a model folder."""

from pathlib import Path

from gvtnets_tf.atomic_files import check_writable
from gvtnets_tf.cli.arguments import start_keras


def add_arguments(parser):
    add = parser.add_argument
    add("kind", choices=["tf1", "fnet"], help="TensorFlow 1 (GVTNets), or pytorch_fnet")
    add("source", help="prefix of a TensorFlow checkpoint; .npz, .safetensors, .pt, .p")
    add("--preset", help="of tf1: label_free, denoising or projection")
    add("--out", type=Path, required=True, help="model folder to make")
    add("--normalize", choices=["none", "zscore", "percentile"], help="as published by default")
    add("--force", action="store_true", help="replace what is there")


def run(args):
    if (args.kind == "tf1") != bool(args.preset):
        raise ValueError(
            "--preset names the released checkpoint: give it with tf1, and only there."
        )
    check_writable(args.out, args.force)
    start_keras()
    from gvtnets_tf.zoo.conversion import convert_fnet, convert_tf1

    if args.kind == "tf1":
        print(convert_tf1(args.source, args.out, args.preset, args.normalize, args.force))
    else:
        print(convert_fnet(args.source, args.out, args.normalize or "zscore", args.force))
