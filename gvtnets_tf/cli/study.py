"""Repeat a comparison of a paper, or of this package: train, predict and evaluate networks."""

import argparse
from pathlib import Path

from gvtnets_tf.cli.arguments import collect_given, parse_channel, start_keras


def add_arguments(parser):
    studies = parser.add_subparsers(metavar="STUDY", dest="name", required=True)

    def study(name, description):
        p = studies.add_parser(name, help=description, description=description)
        p.add_argument("--debug", action="store_true", default=argparse.SUPPRESS)
        p.add_argument("--out", type=Path, required=True, help="folder, new or one to continue")
        return p

    _add_label_free(study("label-free", "fnet against GVTNet, on each structure of a data set."))
    for name, what in {"operators": "Operators of networks", "training": "Ways to train"}.items():
        _add_comparison(study(name, f"{what} on several sets of real images, over seeds."))


def _add_comparison(parser):
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder that holds the folders of the sets")
    for name in ("groups", "sets", "networks"):
        add(f"--{name}", nargs="+", metavar="NAME", help="all by default")
    add("--seeds", type=int, nargs="+", metavar="SEED", help="0 1 2 by default")
    add("--steps", type=int, help="of each training, in place of the study's own")


def _add_label_free(parser):
    """Add the flags; those of a field of `StudySettings` have its name."""
    add = parser.add_argument
    add("--data", type=Path, help="folder of the label-free data set")
    add("--simulate", action="store_true", help="simulated cells instead")
    add("--structures", nargs="+", metavar="NAME", help="all of the data by default")
    add("--models", nargs="+", metavar="PRESET", help="fnet label_free by default")
    add("--volumes", type=int, nargs=3, metavar=("TRAIN", "VALIDATION", "TEST"))
    add("--shape", type=int, nargs=3, metavar="VOXELS", help="of simulated volumes")
    add("--filters", type=int, help="of the first level, in place of the published 32")
    add("--steps", type=int, help="of training, the same for all networks")
    add("--patch-size", type=int, nargs=3, metavar="VOXELS", help="e.g. 32 64 64")
    add("--batch-size", type=int, help="patches per step")
    add("--channels", type=parse_channel, nargs=2, metavar=("SIGNAL", "TARGET"))
    add("--resize", type=float, nargs=3, metavar="FACTOR", help="along z, y and x")
    add("--no-crop", action="store_true", help="keep the full size of the test volumes")
    add("--seed", type=int)
    add("--recipes", action="store_true", help="only write the recipes into --out")
    add("--force", action="store_true", help="with --recipes: replace an existing folder")


def run(args):
    if args.name == "label-free":
        _run_label_free(args)
        return
    start_keras()
    from gvtnets_tf.studies.comparison import format_comparison, run_comparison

    names = ("groups", "sets", "networks", "seeds", "steps")
    options = {k: v for k in names if (v := getattr(args, k)) is not None}
    print(format_comparison(run_comparison(args.name, args.out, args.data, **options)))


def _run_label_free(args):
    if (args.data is None) != args.simulate:
        raise ValueError("Choose the source of the volumes: --data FOLDER or --simulate.")
    if args.force and not args.recipes:
        raise ValueError(
            "--force goes with --recipes only: a study continues where it was stopped."
        )
    start_keras()
    from gvtnets_tf.studies import label_free
    from gvtnets_tf.studies.label_free_scores import format_study

    settings = collect_given(args, label_free.StudySettings)
    settings |= {"data": args.data, "crop": not args.no_crop, "structures": args.structures}
    settings["models"] = args.models or label_free.MODELS
    if args.recipes:
        paths = label_free.write_label_free_recipes(args.out, force=args.force, **settings)
        print("\n".join(map(str, paths)))
    else:
        print(format_study(label_free.run_label_free_study(args.out, **settings)))
