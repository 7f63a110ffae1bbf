"""Score predictions against targets, with a table and figures."""

from pathlib import Path

from gvtnets_tf.cli.arguments import CHANNELS, parse_regions

OPTIONS = ("out", "baseline", "inputs", "axes", "target_channels", "force")


def add_arguments(parser):
    add = parser.add_argument
    add("--predictions", required=True, help="quoted glob or folder")
    add("--targets", required=True, help="quoted glob or folder: the truth")
    add("--baseline", help="quoted glob or folder: another method")
    add("--inputs", help="quoted glob or folder: for the figures only")
    add("--out", type=Path, help="folder for the table and the figures")
    add("--axes", help="axes of the files, in place of those in their metadata")
    add("--target-channels", **CHANNELS)
    add("--region", action="append", metavar="AXIS:START:STOP", help="part to score")
    add(
        "--staining", type=int, nargs="?", const=1_000_000, metavar="PIXELS", help="also score "
        "all images of a label together, on random pixels, as the paper of virtual staining",
    )  # fmt: skip
    add("--json", action="store_true", help="print the scores as JSON")
    add("--force", action="store_true", help="replace an existing folder")


def run(args):
    from gvtnets_tf.evaluation.scoring import evaluate

    options = {name: getattr(args, name) for name in OPTIONS}
    staining = None if args.staining is None else {"pixels": args.staining}
    regions = parse_regions(args.region)
    report = evaluate(args.predictions, args.targets, regions=regions, staining=staining, **options)
    print(report.json() if args.json else report)
