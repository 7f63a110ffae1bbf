"""Score predictions against targets, with a table and figures."""

from pathlib import Path

from gvtnets_tf.cli.arguments import parse_channel, parse_regions


def add_arguments(parser):
    parser.add_argument("--predictions", required=True, help="quoted glob or folder")
    parser.add_argument("--targets", required=True, help="quoted glob or folder: the truth")
    parser.add_argument("--baseline", help="quoted glob or folder: another method")
    parser.add_argument("--inputs", help="quoted glob or folder: shown in the figures")
    parser.add_argument("--out", type=Path, help="folder for the table and the figures")
    parser.add_argument("--axes", help="axes of the files, in place of what they say")
    parser.add_argument("--target-channels", type=parse_channel, nargs="+", metavar="C")
    parser.add_argument(
        "--region", action="append", metavar="AXIS:START:STOP", help="score only this"
    )
    parser.add_argument(
        "--staining", type=int, nargs="?", const=1_000_000, metavar="PIXELS", help="also score "
        "all images of a label together, as the paper of virtual staining, on so many pixels",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.add_argument("--force", action="store_true", help="replace what is there")


def run(args):
    from gvtnets_tf.evaluation.scoring import evaluate

    report = evaluate(
        args.predictions, args.targets, args.out, args.baseline, axes=args.axes,
        target_channels=args.target_channels, regions=parse_regions(args.region),
        inputs=args.inputs, force=args.force,
        staining=None if args.staining is None else {"pixels": args.staining},
    )  # fmt: skip
    print(report.json() if args.json else report)
