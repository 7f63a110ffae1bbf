"""Compare networks, or ways to train them, on several sets of real images and over seeds."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import keras
import numpy as np
import scipy.stats
import yaml

from gvtnets_tf.atomic_files import atomic_rewrite, lock, write_csv
from gvtnets_tf.checks import (
    check_choice,
    check_same_settings,
    cut,
    format_table,
    read_csv,
    read_json,
)
from gvtnets_tf.evaluation import plots
from gvtnets_tf.training.fitting import train
from gvtnets_tf.training.preparation import build_network, open_splits
from gvtnets_tf.training.recipe import Recipe

COMPARISONS = ("operators", "training")
RUNS, SETTINGS = "runs.csv", "study.json"
# Columns of `runs.csv`, and what is in them.
COLUMNS = {
    "group": str, "set": str, "network": str, "seed": int, "filters": int, "weights": int,
    "epoch": int, "val_loss": float, "val_r": float, "last_val_loss": float, "last_val_r": float,
    "seconds": float,
}  # fmt: skip


def run_comparison(
    name: str,
    out: str | Path,
    data: str | Path,
    *,
    groups: Sequence[str] | None = None,
    sets: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    steps: int | None = None,
    progress: bool = True,
) -> list[dict]:
    """Train every network of a comparison on every set with every seed, and rank them.

    The networks of a group have as many weights as its first one, as near as `filters` allow. Each
    is trained on the training part of a set and scored on its validation part, by the weights that
    the run keeps (of the lowest validation loss, or what `monitor` says). A stopped comparison
    continues at its last epoch; run again with more seeds, sets or networks, it adds these.

    Args:
        name: `"operators"` or `"training"`, whose networks and sets are in the file of that name.
        out: folder, new or to continue: `runs.csv` with a row per run, `table.csv`, `table.txt`,
            `GROUP.png`, and a model folder per run.
        data: folder that holds the folders of the sets.
        groups, sets, networks: names of those to run; all by default.
        seeds: of the weights, the patches and their changes.
        steps: of each training, in place of those of the file.
        progress: bool. Show progress bars on standard error.

    Returns:
        List of mappings, one per group and network: `weights`, the mean r of each set and their
        standard deviation over seeds, and `rank`, the mean rank over sets and seeds (1 is best).

    Raises:
        FileNotFoundError, ValueError: naming a set that is not there, an unknown name, or how the
            comparison in `out` differs.

    Examples:
        >>> rows = run_comparison("operators", "runs", "data")  # doctest: +SKIP
    """
    out, data = Path(out), Path(data)
    study = read_comparison(name)
    plan = list(_plan_runs(study, groups, sets, networks, seeds))
    for key in {run[1] for run in plan}:
        if not (folder := data / study["sets"][key]["folder"]).is_dir():
            raise FileNotFoundError(f"The images of {key!r} are not there: {folder} is no folder.")
    with lock(out):
        _check_settings(out, {"name": name, "steps": steps})
        rows = read_runs(out)
        done = {_key(row) for row in rows}
        for group, key, network, seed in plan:
            if (group, key, network, seed) in done:
                continue
            recipe = _make_recipe(study, group, key, network, data, out, steps).changed(seed=seed)
            row = dict(zip(COLUMNS, (group, key, network, seed)))
            rows.append(row | _train(recipe, out / _folder(group, key, network, seed), progress))
            write_csv(out / RUNS, rows)
            keras.backend.clear_session()
        return write_tables(out, rows)


def _check_settings(out, settings):
    """Refuse a folder of another comparison, whose runs would be taken for those of this one."""
    if (path := out / SETTINGS).is_file():
        advice = "Continue with the same, or choose another folder."
        check_same_settings(settings, read_json(path), f"The comparison in {out}", advice)
        return
    out.mkdir(parents=True, exist_ok=True)
    with atomic_rewrite(path) as temporary:
        temporary.write_text(json.dumps(settings) + "\n")


def read_comparison(name: str) -> dict:
    """Read the sets and groups of a comparison."""
    check_choice("comparison", name, COMPARISONS)
    files = (resources.files(__package__).joinpath(f"{n}.yaml") for n in ("sets", name))
    sets, study = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)
    return {"sets": sets, **study}


def read_runs(out: Path) -> list[dict]:
    """Read `runs.csv`; no rows if there is none."""
    if not (path := out / RUNS).is_file():
        return []
    try:
        return [{k: kind(row[k]) for k, kind in COLUMNS.items()} for row in read_csv(path)[1]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not as it was written ({cut(error)}): remove it.") from error


def write_tables(out: Path, rows: Sequence[Mapping]) -> list[dict]:
    """Write `table.csv`, `table.txt` and a figure per group; return the rows of the table."""
    table = []
    for group in dict.fromkeys(row["group"] for row in rows):
        own = [row for row in rows if row["group"] == group]
        table += _summarize(group, own)
        scores = defaultdict(lambda: defaultdict(list))
        for row in own:
            scores[row["set"]][row["network"]].append(row["val_r"])
        plots.dots(out / f"{group}.png", scores, label="r, validation part", force=True)
    write_csv(out / "table.csv", table)
    with atomic_rewrite(out / "table.txt") as temporary:
        temporary.write_text(format_comparison(table) + "\n")
    return table


def format_comparison(table: Sequence[Mapping]) -> str:
    """Format the table of a comparison as text, a part per group."""
    parts = []
    for group in dict.fromkeys(row["group"] for row in table):
        own = [row for row in table if row["group"] == group]
        sets = [key.removesuffix(" r") for key in own[0] if key.endswith(" r")]
        cells = [
            [row["network"], f"{row['weights']:,}", f"{row['rank']:.2f}", str(row["n"])]
            + [f"{row[f'{key} r']:.3f}{_format_sd(row[f'{key} sd'])}" for key in sets]
            for row in sorted(own, key=lambda row: row["rank"])
        ]
        parts.append(format_table(cells, [group, "weights", "rank", "runs", *sets]))
    return "\n\n".join(parts)


def _plan_runs(study, groups, sets, networks, seeds):
    """Yield group, set, network and seed of each run, all of one seed before those of the next."""
    groups = [check_choice("group", g, study["groups"]) for g in groups or study["groups"]]
    known = {name for group in groups for name in study["groups"][group]["networks"]}
    for name in networks or ():
        check_choice("network", name, sorted(known))
    for key in sets or ():
        check_choice("set", key, study["sets"])
    for seed in seeds:
        for group in groups:
            for key in study["groups"][group]["sets"]:
                for name in study["groups"][group]["networks"]:
                    if (not sets or key in sets) and (not networks or name in networks):
                        yield group, key, name, seed


def _make_recipe(study, group, key, network, data, out, steps):
    """Make the recipe of a network on a set, with as many weights as the first of its group."""
    own, networks = study["sets"][key], study["groups"][group]["networks"]
    places = {"root": str((data / own["folder"]).resolve())}
    if pairs := own.get("pairs"):
        table = out / f"{key}.csv"
        names = ("input", "target", "split")
        write_csv(table, [dict(zip(names, [*pair, "train"][:3])) for pair in pairs])
        places["csv"] = str(table.resolve())
    parts = [study["groups"][group]["recipe"], own["recipe"]]
    first, recipe = (
        _merge(*parts, networks[name], {"data": places}, {"steps": steps} if steps else {})
        for name in (next(iter(networks)), network)
    )
    return match_weights(*map(Recipe.parse, (first, recipe)))


def match_weights(first: Recipe, recipe: Recipe) -> Recipe:
    """Return a recipe with the `filters` that bring its weights nearest to those of the first.

    Where layers of dense blocks have a `growth`, it changes in proportion.
    """
    if recipe.model == first.model:
        return recipe
    channels = open_splits(first)[0][0].kind[:2]

    def count(recipe):
        return build_network(recipe, channels).count_params()

    def scale(factor, more=0):
        sizes = {k: recipe.model[k] for k in ("growth", "filters") if k in recipe.model}
        sizes = {k: max(1, round(n * factor)) for k, n in sizes.items()}
        return recipe.changed(model={**sizes, "filters": max(1, sizes["filters"] + more)})

    wanted = count(first)
    factor = math.sqrt(wanted / count(recipe))
    factor *= math.sqrt(wanted / count(scale(factor)))  # biases, and layers of fixed channels
    near = [scale(factor, more) for more in range(-2, 3)]
    return min(near, key=lambda recipe: abs(count(recipe) - wanted))


def _train(recipe, folder, progress):
    """Train one network, or continue; return what `runs.csv` has of it."""
    start, resume = time.monotonic(), (folder / "resume" / "progress.json").is_file()
    train(recipe, folder, resume=resume, force=not resume, progress=progress)
    _, history = read_csv(folder / "history.csv")
    choose = max if recipe.monitor == "val_r" else min
    best = choose(history, key=lambda row: float(row[recipe.monitor]))
    scores = {name: float(best[name]) for name in ("val_loss", "val_r")}
    channels = open_splits(recipe)[0][0].kind[:2]
    return {
        "filters": recipe.model["filters"],
        "weights": build_network(recipe, channels).count_params(),
        "epoch": int(best["epoch"]),
        **scores,
        **{f"last_{name}": float(history[-1][name]) for name in scores},
        "seconds": round(time.monotonic() - start, 1),
    }


def _summarize(group, rows):
    """Return a row per network: its weights, mean rank, and r per set over the seeds."""
    ranks, r = defaultdict(list), defaultdict(lambda: defaultdict(list))
    networks = list(dict.fromkeys(row["network"] for row in rows))
    sets = list(dict.fromkeys(row["set"] for row in rows))
    cells = defaultdict(dict)
    for row in rows:
        cells[row["set"], row["seed"]][row["network"]] = row["val_r"]
        r[row["network"]][row["set"]].append(row["val_r"])
    for scores in cells.values():
        if len(scores) == len(networks):  # only whole comparisons can be ranked
            for name, rank in zip(scores, scipy.stats.rankdata([-s for s in scores.values()])):
                ranks[name].append(float(rank))
    return [
        {
            "group": group,
            "network": name,
            "weights": next(row["weights"] for row in rows if row["network"] == name),
            "rank": float(np.mean(ranks[name])) if ranks[name] else math.nan,
            "n": sum(map(len, r[name].values())),
            **{f"{k} r": float(np.mean(r[name][k])) if r[name][k] else math.nan for k in sets},
            **{f"{k} sd": _compute_sd(r[name][k]) for k in sets},
        }
        for name in networks
    ]


def _compute_sd(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def _format_sd(sd):
    return "" if math.isnan(sd) else f" ({sd:.3f})"


def _merge(*mappings):
    """Merge mappings, those that are in them too; later ones come first."""
    merged = {}
    for mapping in mappings:
        for key, value in mapping.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
            merged[key] = _merge(merged[key], value) if both else value
    return merged


def _key(row):
    return row["group"], row["set"], row["network"], row["seed"]


def _folder(group, key, network, seed):
    return Path(group, key, network.replace(" ", "_"), str(seed))
