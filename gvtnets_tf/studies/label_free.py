"""Compare networks that predict fluorescence from transmitted light, as the papers do."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from gvtnets_tf.atomic_files import atomic_write, lock, remove, write_csv
from gvtnets_tf.checks import check_choice, check_same_settings, read_json
from gvtnets_tf.data import pairing
from gvtnets_tf.data.synthetic import cells
from gvtnets_tf.images import writers
from gvtnets_tf.images.normalization import Normalizer
from gvtnets_tf.models.presets import PRESETS
from gvtnets_tf.studies import label_free_data, label_free_volumes
from gvtnets_tf.studies.label_free_scores import MODEL, progress_bar, score_model, write_table
from gvtnets_tf.training.fitting import train
from gvtnets_tf.zoo import model_folder

MODELS = ("fnet", "label_free")
SIMULATED = {"train": 6, "validation": 2, "test": 5}  # volumes
SETTINGS, VOLUMES, TRAINING = "study.json", "volumes", "training"


@dataclass(frozen=True)
class StudySettings:
    """The settings that decide the scores of a study; a resumed study has the same.

    Attributes:
        data: folder of the data set (see `label_free_data`), or `None` for simulated volumes.
        volumes: numbers of volumes of the training, validation and test split; 30, 0 and 20
            as published, 6, 2 and 5 simulated.
        shape: `(z, y, x)` of simulated volumes.
        filters, steps, patch_size, batch_size: in place of the published numbers of each network.
        channels: `(signal, target)` by index or name, in place of those of the tables.
        resize: factors along z, y, x, in place of those that follow from the voxel sizes.
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
        """Mapping from split to the number of volumes."""
        default = label_free_data.VOLUMES if self.data else SIMULATED
        return dict(zip(default, self.volumes)) if self.volumes else default

    def changes(self, preset):
        """Keys of a recipe in place of the published ones."""
        changes = {k: v for k in ("steps", "patch_size", "batch_size") if (v := getattr(self, k))}
        steps = self.steps or PRESETS[check_choice("model", preset, PRESETS)].training["steps"]
        if self.filters:
            changes["model"] = {"filters": self.filters}
        return {**changes, "steps_per_epoch": max(1, min(500, steps // 10)), "seed": self.seed}


def run_label_free_study(
    out: str | Path,
    data: str | Path | None = None,
    *,
    structures: Sequence[str] | None = None,
    models: Sequence[str] = MODELS,
    progress: bool = True,
    **settings,
) -> list[dict]:
    """Train networks on several structures, predict the test volumes, and compare the scores.

    Volumes are prepared as published (see `label_free_volumes.prepare_pair`) and kept, so that
    scores are those of z-scored, resized images, and a blank image has a normalized L2 of 1.0.
    A stopped study continues at its last volume or epoch, also with more structures or models.

    Args:
        out: folder of the study, new or to continue: `table.csv`, `table.txt`, `r.png` and, per
            structure and model, a model folder for images as recorded, predictions, `scores.csv`.
        data: folder of the label-free data set; `None` simulates one in `out/data`.
        structures: names of folders of `data`, or of simulated structures; all by default.
        models: names of presets. The later ones are tested against the first.
        progress: bool. Show progress on standard error.
        **settings: see `StudySettings`.

    Returns:
        List of mappings, one per structure and model: `structure`, `model`, `parameters`,
        `r_mean`, `r_sd` and `n` of the test split, `l2_train`, `l2_test` (means of the
        normalized L2), `seconds` per test volume (median, whole volumes), and `p`, the p-value
        of a greater r than that of the first model (paired, one-tailed), or a `note` if none.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: before any work, naming the error in the
            data, the settings in which the study in `out` differs, or an `out` of another kind.

    Reference:
        Wang, Xie & Ji (2021), Fig. 2. https://doi.org/10.1038/s42256-020-00283-x

    Examples:
        >>> rows = run_label_free_study("study", structures=["nuclei"])  # doctest: +SKIP
    """
    out, settings = Path(out), _make_settings(data, settings)
    structures = _select_structures(settings, structures)
    for model in models:
        settings.changes(model)
    with lock(out):
        return _run_study(out, settings, structures, models, progress)


def _run_study(out, settings, structures, models, progress):
    _check_folder(out, settings)
    root = settings.data or out / "data"
    if settings.data is None:
        _write_settings(out, settings)
        label_free_data.simulate_data_set(root, settings.counts, settings.shape, settings.seed)
    missing = [name for name in structures if not (out / name / VOLUMES / "pairs.csv").is_file()]
    tables = {name: _choose_volumes(name, root, settings) for name in missing}
    _write_settings(out, settings)  # Not earlier: an error in the data leaves no folder.
    for name in structures:
        if name in tables:
            _prepare_volumes(out / name, root, tables[name], settings.crop, progress)
        for model in models:
            _train_model(out / name, model, settings, progress)
            score_model(out / name / model, out / name / VOLUMES, progress)
    return write_table(out, structures, models)


def write_label_free_recipes(
    out: str | Path,
    data: str | Path,
    *,
    structures: Sequence[str] | None = None,
    models: Sequence[str] = MODELS,
    force: bool = False,
    **settings,
) -> list[Path]:
    """Write the recipes of the structures for `gvtnets train`, without training.

    Args:
        out: folder to make, with `STRUCTURE.csv`, the table of pairs, and
            `STRUCTURE_MODEL.yaml` of every structure; the paths of these are returned.
        data, structures, models, **settings: as in `run_label_free_study`, also their errors.
        force: bool. Whether an existing folder is replaced.

    Examples:
        >>> write_label_free_recipes("recipes", "label_free_data")  # doctest: +SKIP
    """
    if data is None:
        raise ValueError("Recipes are written for a data set on disk: give `data` (--data).")
    out, settings, paths = Path(out), _make_settings(data, settings), []
    with atomic_write(out, force) as temporary:
        temporary.mkdir()
        for name in _select_structures(settings, structures):
            table, file = _choose_volumes(name, data, settings), f"{name}.csv"
            table.write(temporary / file)
            for model in models:
                recipe = label_free_data.make_recipe(
                    name, model, data, out / file, table.resize, **settings.changes(model)
                )
                paths.append(out / f"{name}_{model}.yaml")
                (temporary / paths[-1].name).write_text(yaml.safe_dump(recipe))
    return paths


def _make_settings(data, values):
    for key in values:
        check_choice("setting", key, [k for k in StudySettings.__dataclass_fields__ if k != "data"])
    if data and "shape" in values:
        raise ValueError("`shape` is that of simulated volumes: leave it out, or `data`.")
    cells.check_shape(values.get("shape", StudySettings.shape))
    settings = StudySettings(**{"data": data and str(Path(data).resolve()), **values})
    counts = settings.counts
    least = {"train": 1, "validation": 0, "test": 1}
    if len(counts) != 3 or any(counts[split] < n for split, n in least.items()):
        raise ValueError(
            f"`volumes` must be three numbers: how many to train on (at least 1), to choose the "
            f"best weights by, and to test on (at least 1). Received: {settings.volumes}."
        )
    return settings


def _select_structures(settings, names):
    known = list(label_free_data.STRUCTURES) if settings.data else cells.STRUCTURES
    if names is None:
        names = [n for n in known if settings.data is None or (Path(settings.data) / n).is_dir()]
        if not names:
            raise FileNotFoundError(
                f"{settings.data} has no folder of a structure: {', '.join(known)}."
            )
    return [check_choice("structure", name, known) for name in names]


def _check_folder(out, settings):
    """Refuse a folder that holds another study, or something else."""
    if not (out / SETTINGS).is_file():
        if out.exists():
            raise FileExistsError(f"{out} exists and holds no study: choose another folder.")
        return
    check_same_settings(
        json.loads(json.dumps(asdict(settings))),  # lists for tuples
        read_json(out / SETTINGS),
        f"The study in {out}",
        "Continue with the same, or choose another folder.",
    )


def _write_settings(out, settings):
    if not (out / SETTINGS).is_file():
        with atomic_write(out / SETTINGS) as temporary:
            temporary.write_text(json.dumps(asdict(settings), indent=2) + "\n")


def _choose_volumes(name, root, settings):
    resize = settings.resize or (None if settings.data else (1, 1, 1))
    return label_free_data.choose_volumes(
        name, root, settings.counts, channels=settings.channels, resize=resize
    )


def _prepare_volumes(out, root, table, crop, progress):
    """Write the normalized volumes of a structure, and their table."""
    table.write(out / "pairs.csv", force=True)
    rows, pairs = pairing.read_pairs_csv(out / "pairs.csv", root), []
    for i, row in enumerate(progress_bar(rows, f"prepare {out.name}", progress)):
        paths = [Path(side) / f"{row.split}_{i:02d}.tif" for side in ("input", "target")]
        if not all((out / VOLUMES / path).exists() for path in paths):
            limit = label_free_volumes.MAX_VOXELS if crop and row.split == "test" else None
            images = label_free_volumes.prepare_pair(row, table.resize, limit)
            for path, image in zip(paths, images):
                writers.write(out / VOLUMES / path, image, force=True)
        pairs.append({"input": paths[0], "target": paths[1], "split": row.split})
    write_csv(out / VOLUMES / "pairs.csv", pairs)


def _train_model(out, name, settings, progress):
    """Train a network, then write a model folder for images as they were recorded."""
    run, folder = out / name / TRAINING, out / name / MODEL
    if folder.exists():
        return
    data = {"root": str((out / VOLUMES).resolve()), "csv": "pairs.csv", "axes": "ZYX"}
    as_prepared = {"input": "none", "target": "none", "denormalize": "none"}
    recipe = {"preset": name, "data": data, "normalize": as_prepared, "validation_split": 0}
    resume = (run / "resume" / "progress.json").is_file()  # not if killed in its first epoch
    recipe |= settings.changes(name)
    train(recipe, run, resume=resume, force=not resume, progress=progress)
    model, card = model_folder.read_model(run)
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        # The volumes were z-scored before: an image as it was recorded is not.
        zscore = Normalizer("zscore")
        card = card.changed(input_normalizer=zscore, target_normalizer=zscore, target_statistics={})
        model_folder.save_model(temporary, model, card)
        for file in ("recipe.yaml", "history.csv"):
            shutil.copy(run / file, temporary / file)
    remove(run)
