"""Repeat a comparison of a paper: train, predict, evaluate, one table, one figure."""

from pathlib import Path

from gvtnets_tf.cli.arguments import parse_channel, pick_arguments, start_tensorflow

FLAGS = (
    "structures", "models", "volumes", "shape", "filters", "steps", "patch", "batch", "channels",
    "resize", "seed",
)  # fmt: skip


def add_arguments(parser):
    parser.add_argument("name", choices=["label-free"], help="fnet against GVTNet")
    parser.add_argument("--data", type=Path, help="folder of the label-free data set")
    parser.add_argument("--simulate", action="store_true", help="simulated cells instead")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the study; to go on, again"
    )
    parser.add_argument(
        "--structures", nargs="+", metavar="NAME", help="all that there are by default"
    )
    parser.add_argument("--models", nargs="+", metavar="PRESET", help="fnet label_free by default")
    parser.add_argument("--volumes", type=int, nargs=3, metavar=("TRAIN", "SELECT", "REPORT"))
    parser.add_argument("--shape", type=int, nargs=3, metavar="VOXELS", help="of simulated volumes")
    parser.add_argument(
        "--filters", type=int, help="of the first level, in place of the published 32"
    )
    parser.add_argument("--steps", type=int, help="of training, the same for all networks")
    parser.add_argument("--patch", type=int, nargs=3, metavar="VOXELS", help="e.g. 32 64 64")
    parser.add_argument("--batch", type=int, help="patches per step")
    parser.add_argument("--channels", type=parse_channel, nargs=2, metavar=("SIGNAL", "TARGET"))
    parser.add_argument("--resize", type=float, nargs=3, metavar="FACTOR", help="along z, y and x")
    parser.add_argument(
        "--no-crop", action="store_true", help="leave test volumes as large as they are"
    )
    parser.add_argument("--seed", type=int)
    parser.add_argument("--recipes", action="store_true", help="only write the recipes into --out")
    parser.add_argument(
        "--force", action="store_true", help="with --recipes: replace what is there"
    )


def run(args):
    if (args.data is None) != args.simulate:
        raise ValueError("Say where the volumes come from: --data FOLDER or --simulate.")
    if args.force and not args.recipes:
        raise ValueError("--force goes with --recipes only: a study goes on with what is there.")
    start_tensorflow()
    from gvtnets_tf.studies.label_free import label_free, show, write_recipes

    how = {**pick_arguments(args, FLAGS), "data": args.data, "crop": not args.no_crop}
    if args.recipes:
        print("\n".join(map(str, write_recipes(args.out, force=args.force, **how))))
    else:
        print(show(label_free(args.out, **how)))
