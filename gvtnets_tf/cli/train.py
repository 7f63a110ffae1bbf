"""Train a network by a recipe, or by a preset and two globs."""

from pathlib import Path

from gvtnets_tf.atomic_files import check_writable
from gvtnets_tf.cli.arguments import add_pair_arguments, collect_given, start_keras

OPTIONS = ("resume", "tensorboard", "deterministic", "force")


def add_arguments(parser):
    """Add the flags; those of a key of the recipe, or of its `data`, have its name."""
    add = parser.add_argument
    add("recipe", type=Path, nargs="?", help="YAML file")
    add("--out", type=Path, required=True, help="model folder to make")
    add("--preset", help="published architecture, e.g. denoising")
    add_pair_arguments(parser, required=False)
    add("--wells", metavar="FOLDER", help="of the in-silico labeling data set, as it is")
    add("--conditions", nargs="+", metavar="A", help="of that data set, e.g. B D")
    add("--labels", nargs="+", metavar="NAME", help="of that data set; by default all")
    add("--axes", help="axes of the files, e.g. ZYX")
    add("--patch-size", type=int, nargs="+", metavar="VOXELS", help="e.g. 16 64 64")
    add("--batch-size", type=int, help="patches per step")
    add("--steps", type=int, help="of training, in all; with --resume, more than before")
    add("--precision", help="of the layers: float32 (the default), bfloat16 or float16")
    add("--seed", type=int, help="of weights and patches; 0 by default")
    add("--validation-split", type=float, help="share kept to choose the best weights, e.g. 0.1")
    add("--resume", action="store_true", help="continue the run that --out holds, by its recipe")
    add("--initial-weights", metavar="MODEL", help="zoo name or folder to start from")
    add("--tensorboard", action="store_true", help="write logs to OUT/tensorboard")
    add("--deterministic", action="store_true", help="the same bits on every run")
    add("--force", action="store_true", help="replace a model folder that is there")


def run(args):
    start_keras()
    from gvtnets_tf.prediction.loading import load
    from gvtnets_tf.training.fitting import train
    from gvtnets_tf.training.recipe import DataRecipe, Recipe

    values, data = collect_given(args, Recipe), collect_given(args, DataRecipe)
    if args.recipe is not None and (values or data):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in [*values, *data])
        raise ValueError(
            f"A recipe says everything; the flags {flags} would be ignored. "
            f"Write them into {args.recipe}, or leave the recipe out."
        )
    named = "wells" in data or {"inputs", "targets"} <= data.keys()
    if args.resume and not args.recipe and not data and values.keys() <= {"steps"}:
        recipe = Recipe.load(args.out / "recipe.yaml").changed(**values)
    elif args.recipe is None and not ("preset" in values and named):
        raise ValueError("Give a recipe, or --preset with --inputs and --targets, or with --wells.")
    else:
        recipe = Recipe.load(args.recipe) if args.recipe else Recipe.parse(values | {"data": data})
    if args.initial_weights and not args.resume:
        folder = Path(args.initial_weights, "model.json")  # else it is a name of the zoo
        check_writable(args.out, args.force, [folder] if folder.is_file() else [])
    weights = load(args.initial_weights).model if args.initial_weights else None
    options = {name: getattr(args, name) for name in OPTIONS}
    print(train(recipe, args.out, initial_weights=weights, **options))
