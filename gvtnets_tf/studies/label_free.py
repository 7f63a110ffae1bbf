"""A comparison of the papers as one run that can be stopped: train, predict, evaluate."""

import csv
import json
import math
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import yaml
from tqdm import tqdm

from gvtnets_tf.atomic_files import atomic_write, remove, write_csv
from gvtnets_tf.checks import check_choice
from gvtnets_tf.data import pairing
from gvtnets_tf.data.synthetic import cells
from gvtnets_tf.evaluation import metrics, plots
from gvtnets_tf.evaluation.statistics import paired_t_test, summarize
from gvtnets_tf.images import readers, writers
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.models.presets import PRESETS
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.studies import label_free_data
from gvtnets_tf.training.fitting import train
from gvtnets_tf.zoo import model_folder

MODELS = ("fnet", "label_free")
SIMULATED = {"train": 6, "validation": 2, "test": 5}  # volumes
PLAN, VOLUMES, TRAINING, MODEL, SCORES = (
    "study.json", "volumes", "training", "model", "scores.csv",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What the numbers of a study depend on; a resumed study has the same.

    Attributes:
        data: folder in the layout of `data.allen`, or `None` for simulated volumes.
        volumes: how many to train on, to choose the best weights by, and to report on;
            30, 0 and 20 as published, 6, 2 and 5 simulated.
        shape: `(z, y, x)` of simulated volumes.
        filters, steps, patch_size, batch_size: in place of the published numbers of each network.
        channels: `(signal, target)` by index or name, in place of what the tables say.
        resize: factors along z, y, x, in place of what the voxel sizes say.
        crop: bool. Whether test volumes are cropped as published.
        seed: int. Of the weights, the patches, and the simulated cells.
    """

    data: str | None = None
    volumes: tuple | None = None
    shape: tuple = (32, 128, 128)
    filters: int | None = None
    steps: int | None = None
    patch_size: tuple | None = None
    batch_size: int | None = None
    channels: tuple | None = None
    resize: tuple | None = None
    crop: bool = True
    seed: int = 0

    @property
    def counts(self):
        """Mapping from part to the number of volumes."""
        default = label_free_data.VOLUMES if self.data else SIMULATED
        return dict(zip(default, self.volumes)) if self.volumes else default

    @property
    def known(self):
        """Names of the structures there are."""
        return tuple(label_free_data.STRUCTURES) if self.data else cells.STRUCTURES

    def changes(self, preset):
        """Keys of a recipe in place of the published ones."""
        given = {k: v for k in ("steps", "patch_size", "batch_size") if (v := getattr(self, k))}
        steps = self.steps or PRESETS[check_choice("model", preset, PRESETS)].training["steps"]
        size = {"model": {"filters": self.filters}} if self.filters else {}
        epoch = max(1, min(500, steps // 10))
        return {**given, **size, "steps_per_epoch": epoch, "seed": self.seed}


def label_free(out, data=None, *, structures=None, models=MODELS, progress=True, **settings):
    """Train networks on several structures, and compare how well they predict them.

    Volumes are prepared as published (see `allen.prepare`) and kept, so that scores are
    those of z-scored, resized images, and a blank image has a normalized L2 of 1.0. What
    an earlier call has done is not done again: a kill costs the volume or the epoch under
    way. A further call may name other structures and models.

    Args:
        out: folder of the study, new or one to go on with. It will hold `table.csv`,
            `table.txt`, `r.png` and, per structure and model, a model folder for images as
            they were recorded, the predictions of the report part, and `scores.csv`.
        data: folder of the label-free data set; `None` simulates one in `out/data`.
        structures: names of folders of `data`, or of simulated structures; all by default.
        models: names of presets. The later ones are tested against the first.
        progress: bool. Show progress on standard error.
        **settings: see `Plan`.

    Returns:
        List of mappings, one per structure and model: `structure`, `model`, `parameters`,
        `r_mean`, `r_sd` and `n` of the report part, `l2_train`, `l2_report` (means of the
        normalized L2), `seconds` per report volume (median, whole volumes), and `p` that r is
        not greater than that of the first model (paired, one-tailed), or a `note` why not.

    Raises:
        FileNotFoundError, ValueError: naming what is wrong with the data, before any work.
        FileExistsError: if `out` holds something else.
        ValueError: if `out` holds a study with other settings, naming them.

    Reference:
        Wang, Xie & Ji (2021), Fig. 2. https://doi.org/10.1038/s42256-020-00283-x
    """
    out, plan = Path(out), _plan(data, settings)
    structures = _structures(plan, structures)
    for model in models:
        plan.changes(model)
    _check_same(out, plan)
    if plan.data is None:
        _begin(out, plan)
        label_free_data.simulated(out / "data", plan.counts, plan.shape, plan.seed)
    todo = [name for name in structures if not (out / name / VOLUMES / "pairs.csv").is_file()]
    tables = {name: _table(name, plan.data or out / "data", plan) for name in todo}
    _begin(out, plan)  # Only now: what is wrong with the data was found, and leaves nothing.
    for name in structures:
        if name in tables:
            _prepare(out / name, plan.data or out / "data", tables[name], plan, progress)
        for model in models:
            _train(out / name, model, plan, progress)
            _score(out / name, model, progress)
    return _report(out, structures, models)


def write_recipes(out, data, *, structures=None, models=MODELS, force=False, **settings):
    """Write the recipes of the structures for `gvtnets train`, without training.

    Args:
        out: folder to make, with `STRUCTURE.csv`, the table of pairs, and
            `STRUCTURE_MODEL.yaml` of every structure.
        data, structures, models, **settings: as in `label_free`.
        force: bool. Whether an existing folder is replaced.

    Returns:
        List of the `Path` of every recipe.

    Raises:
        FileExistsError, FileNotFoundError, ValueError: as `label_free`.
    """
    if data is None:
        raise ValueError("Recipes are written for a data set on disk: give `data` (--data).")
    out, plan, written = Path(out), _plan(data, settings), []
    with atomic_write(out, force) as beside:
        beside.mkdir()
        for name in _structures(plan, structures):
            table, place = _table(name, data, plan), f"{name}.csv"
            table.write(beside / place)
            for model in models:
                recipe = label_free_data.recipe_for(
                    name, model, data, out / place, table.resize, **plan.changes(model)
                )
                written.append(out / f"{name}_{model}.yaml")
                (beside / written[-1].name).write_text(yaml.safe_dump(_plain(recipe)))
    return written


def show(rows):
    """The table of a study as text, a line per structure and model."""
    head = f"{'structure':18}{'model':12}{'parameters':>11}{'r':>8}{'sd':>8}{'n':>4}"
    lines = [head + f"{'L2 train':>10}{'L2 report':>10}{'seconds':>9}  p (one-tailed, paired)"]
    for row in rows:
        line = f"{row['structure']:18}{row['model']:12}{row['parameters']:11,}{row['r_mean']:8.3f}"
        line += f"{row['r_sd']:8.3f}{row['n']:4}{row['l2_train']:10.3f}{row['l2_report']:10.3f}"
        p = row["note"] if row["p"] is None else f"{row['p']:.3g}"
        lines.append(f"{line}{row['seconds']:9.2f}  {p}".rstrip())
    return "\n".join(lines)


def _plan(data, settings):
    for key in settings:
        check_choice("setting", key, [k for k in Plan.__dataclass_fields__ if k != "data"])
    if data and "shape" in settings:
        raise ValueError("`shape` is that of simulated volumes: leave it out, or `data`.")
    cells.check_shape(settings.get("shape", Plan.shape))
    plan = Plan(**{"data": data and str(Path(data).resolve()), **settings})
    counts = plan.counts
    least = {"train": 1, "validation": 0, "test": 1}
    if len(counts) != 3 or any(counts[part] < n for part, n in least.items()):
        raise ValueError(
            f"`volumes` must be three numbers: how many to train on (at least 1), to choose the "
            f"best weights by, and to report on (at least 1). Received: {plan.volumes}."
        )
    return plan


def _structures(plan, names):
    if names is None:
        is_there = lambda name: plan.data is None or (Path(plan.data) / name).is_dir()
        names = [name for name in plan.known if is_there(name)]
        if not names:
            raise FileNotFoundError(
                f"{plan.data} has no folder of a structure: {', '.join(plan.known)}."
            )
    return [check_choice("structure", name, plan.known) for name in names]


def _check_same(out, plan):
    """Refuse a folder that holds another study, or something else."""
    if not (out / PLAN).is_file():
        if out.exists():
            raise FileExistsError(f"{out} exists and holds no study: choose another folder.")
        return
    ours, theirs = _plain(asdict(plan)), json.loads((out / PLAN).read_text())
    if differ := [key for key in ours if ours[key] != theirs.get(key)]:
        told = "; ".join(f"{key} was {theirs.get(key)}, is {ours[key]}" for key in differ)
        raise ValueError(
            f"The study in {out} has other settings: {told}. Go on with the same, or choose "
            f"another folder."
        )


def _begin(out, plan):
    if not (out / PLAN).is_file():
        with atomic_write(out / PLAN) as beside:
            beside.write_text(json.dumps(_plain(asdict(plan)), indent=2) + "\n")


def _plain(values):
    """Values as JSON and YAML hold them: lists in place of tuples."""
    return json.loads(json.dumps(values))


def _table(name, root, plan):
    resize = plan.resize or (None if plan.data else (1, 1, 1))
    return label_free_data.table(name, root, plan.counts, channels=plan.channels, resize=resize)


def _prepare(out, root, table, plan, progress):
    """Write the volumes of a structure as the networks see them, and their table."""
    table.write(out / "pairs.csv", force=True)
    rows, done = pairing.from_csv(out / "pairs.csv", root), []
    for i, row in enumerate(_bar(rows, f"prepare {out.name}", progress)):
        paths = [Path(side) / f"{row.split}_{i:02d}.tif" for side in ("input", "target")]
        if not all((out / VOLUMES / path).exists() for path in paths):
            most = label_free_data.MOST if plan.crop and row.split == "test" else None
            for path, image in zip(paths, label_free_data.prepare(row, table.resize, most)):
                writers.write(out / VOLUMES / path, image, force=True)
        done.append({"input": paths[0], "target": paths[1], "split": row.split})
    write_csv(out / VOLUMES / "pairs.csv", done)


def _train(out, name, plan, progress):
    """Train a network, then leave a model folder for images as they were recorded."""
    run, done = out / name / TRAINING, out / name / MODEL
    if done.exists():
        return
    data = {"root": str((out / VOLUMES).resolve()), "csv": "pairs.csv", "axes": "ZYX"}
    as_prepared = {"input": "none", "target": "none", "denormalize": "none"}
    recipe = {"preset": name, "data": data, "normalize": as_prepared, "validation_split": 0}
    going = (run / "resume" / "progress.json").is_file()  # else it was killed in its first epoch
    train(
        {**recipe, **plan.changes(name)}, run, resume=going, force=not going, progress=progress
    )  # fmt: skip
    model, card = model_folder.read(run)
    with atomic_write(done) as beside:
        beside.mkdir()
        # The volumes were z-scored before: an image as it was recorded is not.
        zscore = Normalizer("zscore")
        model_folder.save(
            beside, model, card.changed(input_normalizer=zscore, target_normalizer=zscore)
        )
        for file in ("recipe.yaml", "history.csv"):
            shutil.copy(run / file, beside / file)
    remove(run)


def _score(out, name, progress):
    """Predict the volumes to train and to report on, one after the other, and score each."""
    rows = pairing.from_csv(out / VOLUMES / "pairs.csv")
    scores = _scores(out / name)
    done = {score["name"] for score in scores}
    todo = [r for r in rows if r.split != "validation" and r.input.stem not in done]
    if not todo:
        return
    model, card = model_folder.read(out / name / MODEL)
    predictor = Predictor(model, card.changed(input_normalizer=Normalizer("none")))
    predictor.predict(readers.read(todo[0].input, "ZYX"))  # the first call is slower
    count = sum(math.prod(w.shape) for w in model.trainable_weights)
    for row in _bar(todo, f"predict {out.name}, {name}", progress):
        scores.append({**_predicted(row, predictor, out / name), "parameters": count})
        write_csv(out / name / SCORES, scores)


def _predicted(row, predictor, out):
    image, target = readers.read(row.input, "ZYX"), readers.read(row.target, "ZYX")
    image = replace(image, array=image.numpy())  # not timed
    start = time.perf_counter()
    prediction, info = predictor.predict(image)
    seconds = time.perf_counter() - start
    if row.split == "test":
        path = out / "predictions" / row.input.name
        writers.write(path, prediction, metadata=info, force=True)
    true, found = target.numpy(), prediction.numpy()
    return {
        "name": row.input.stem,
        "part": row.split,
        "r": metrics.r(true, found),
        "normalized_l2": metrics.normalized_l2(true, found),
        "seconds": seconds,
    }


def _scores(out):
    """Read what `_score` wrote; none where it wrote nothing."""
    if not (out / SCORES).is_file():
        return []
    with (out / SCORES).open(newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = {"r": float, "normalized_l2": float, "seconds": float, "parameters": int}
    return [{k: numbers.get(k, str)(v) for k, v in row.items()} for row in rows]


def _report(out, structures, models):
    """Write the table and the figure; return the rows."""
    rows, boxes = [], {}
    for name in structures:
        scores = {model: _scores(out / name / model) for model in models}
        boxes[name] = {model: _column(s, "test", "r") for model, s in scores.items()}
        rows += [_row(name, model, scores, boxes[name]) for model in models]
    write_csv(out / "table.csv", rows)
    with atomic_write(out / "table.txt", force=True) as beside:
        beside.write_text(show(rows) + "\n")
    plots.box(out / "r.png", boxes, label="Pearson r", force=True)
    return rows


def _row(name, model, scores, r):
    """One line of the table."""
    first, own = next(iter(r)), scores[model]
    summary = summarize(r[model])
    test = {"p": None, "note": ""} if model == first else paired_t_test(r[model], r[first])
    return {
        "structure": name,
        "model": model,
        "parameters": own[0]["parameters"],
        "r_mean": summary["mean"],
        "r_sd": summary["sd"],
        "n": summary["n"],
        **{f"l2_{p}": _mean(_column(own, p, "normalized_l2")) for p in ("train", "test")},
        "seconds": summarize(_column(own, "test", "seconds"))["median"],
        "p": test["p"],
        "note": test["note"],
    }


def _mean(values):
    return summarize(values)["mean"]


def _column(scores, part, key):
    return [score[key] for score in scores if score["part"] == part]


def _bar(rows, told, progress):
    return tqdm(rows, desc=told, unit="volume", disable=not progress)
