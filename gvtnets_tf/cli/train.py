"""Train a network by a recipe, or by a preset and two globs."""

from pathlib import Path

from gvtnets_tf.cli.arguments import add_pair_arguments, pick_arguments, start_tensorflow

RECIPE_FLAGS = ("preset", "patch", "batch", "steps", "seed", "select")
DATA_FLAGS = (
    "inputs", "targets", "wells", "conditions", "labels", "axes", "input_channels",
    "target_channels", "pair_by",
)  # fmt: skip


def add_arguments(parser):
    parser.add_argument("recipe", type=Path, nargs="?", help="YAML file")
    parser.add_argument("--out", type=Path, required=True, help="model folder to make")
    parser.add_argument("--preset", help="published architecture, e.g. denoising")
    add_pair_arguments(parser, required=False)
    parser.add_argument(
        "--wells", metavar="FOLDER", help="of the in-silico labeling data set, as it is"
    )
    parser.add_argument("--conditions", nargs="+", metavar="A", help="of that data set, e.g. B D")
    parser.add_argument(
        "--labels", nargs="+", metavar="NAME", help="of that data set; by default all"
    )
    parser.add_argument("--axes", help="axes of the files, e.g. ZYX")
    parser.add_argument("--patch", type=int, nargs="+", metavar="VOXELS", help="e.g. 16 64 64")
    parser.add_argument("--batch", type=int, help="patches per step")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--select", type=float, help="share kept for choosing the best weights")
    parser.add_argument("--resume", action="store_true", help="go on with the run that --out holds")
    parser.add_argument(
        "--from", dest="start", metavar="MODEL", help="zoo name or folder to start from"
    )
    parser.add_argument("--tensorboard", action="store_true", help="write logs to OUT/tensorboard")
    parser.add_argument("--deterministic", action="store_true", help="the same bits on every run")
    parser.add_argument("--force", action="store_true", help="replace what is there")


def run(args):
    start_tensorflow()
    from gvtnets_tf.prediction.loading import load
    from gvtnets_tf.training.fitting import train
    from gvtnets_tf.training.recipe import Recipe

    values, data = pick_arguments(args, RECIPE_FLAGS), pick_arguments(args, DATA_FLAGS)
    if args.recipe is not None and (values or data):
        raise ValueError(
            f"A recipe says everything; the flags {', '.join([*values, *data])} would be ignored. "
            f"Write them into {args.recipe}, or leave the recipe out."
        )
    named = "wells" in data or {"inputs", "targets"} <= data.keys()
    if args.recipe is None and not ("preset" in values and named):
        raise ValueError("Give a recipe, or --preset with --inputs and --targets, or with --wells.")
    recipe = Recipe.load(args.recipe) if args.recipe else Recipe.parse({**values, "data": data})
    start = load(args.start).model if args.start else None
    print(
        train(
            recipe, args.out, resume=args.resume, start=start, tensorboard=args.tensorboard,
            deterministic=args.deterministic, force=args.force,
        )
    )  # fmt: skip
