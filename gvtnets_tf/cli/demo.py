"""Denoise a simulated stack with the shipped network, beside plain baselines."""

from pathlib import Path

from gvtnets_tf.atomic_files import check_writable
from gvtnets_tf.cli.arguments import start_keras


def add_arguments(parser):
    parser.add_argument("--out", type=Path, default=Path("gvtnets-demo"), help="folder to write")
    parser.add_argument("--force", action="store_true", help="replace an existing folder")


def run(args):
    check_writable(args.out, args.force)
    start_keras()
    from gvtnets_tf.studies.demo import format_scores, run_demo

    print(format_scores(run_demo(args.out, args.force)))
    print(args.out)
