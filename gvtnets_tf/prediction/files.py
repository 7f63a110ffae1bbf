"""Predict files, and write the results to files."""

import errno
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gvtnets_tf.atomic_files import lock
from gvtnets_tf.checks import cut
from gvtnets_tf.data.sources import find
from gvtnets_tf.images import display, writers
from gvtnets_tf.prediction import time_series
from gvtnets_tf.prediction.loading import load_models, name_models
from gvtnets_tf.prediction.options import PredictionOptions, collect_options
from gvtnets_tf.prediction.outputs import check_dtype, check_result, list_missing, plan_outputs
from gvtnets_tf.prediction.partial_results import keep_parts
from gvtnets_tf.prediction.predictor import Predictor
from gvtnets_tf.prediction.results import merge_structures

# Of a disk that takes no other result either; Windows has not all of them.
FULL = {getattr(errno, name, errno.ENOSPC) for name in ("ENOSPC", "EDQUOT", "EROFS")}
INPUT_ERRORS = (ValueError, OSError, MemoryError, RecursionError, ModuleNotFoundError)
LISTED = 10  # inputs in a summary
logger = logging.getLogger("gvtnets_tf")


class Failures(ValueError):  # noqa: N818
    """Inputs that could not be predicted, in a run that has predicted all others.

    Attributes:
        errors: mapping from input to its error.
        written: list of `Path` of the results of the others.
    """

    def __init__(self, errors: Mapping[str, Exception], count: int, written: Sequence[Path]):
        self.errors, self.written = dict(errors), list(written)
        listed = list(self.errors.items())[:LISTED]
        reasons = [cut(_explain(*failed)).rstrip(".") for failed in listed]
        more = f"; and {len(errors) - LISTED} more" if len(errors) > LISTED else ""
        super().__init__(
            f"{len(errors)} of {count} inputs failed, the others are done: "
            f"{'; '.join(reasons)}{more}. With --resume (`resume=True`) only they are tried again."
        )


def predict(
    inputs: str | Path | Sequence, models: str | Path | Predictor | Sequence | Mapping,
    out: str | Path, options: PredictionOptions | None = None, *,
    gif: str | Path | None = None, gif_plane: int | None = None,
    colors: Sequence[str] | None = None, resume: bool = False, force: bool = False,
    progress: bool = True, strict: bool = False, **fields,
) -> list[Path]:  # fmt: skip
    """Predict files with one model or with several, and write the results.

    Each model is loaded once. With several, an input is read once and gives one image with a
    channel per structure; the axes of their results must agree. A time series is read frame by
    frame.

    Args:
        inputs: a file, quoted glob, folder (also of wells) or `.zarr`, or a list of these.
        models: zoo name, model folder or `Predictor`; a list of these; or a mapping, name to model.
        out: for one input and with a suffix, the file to write; else a folder, in which each
            result has the stem of its input and `.tif`, of several models `.ome.tif` (`.zarr`
            for a Zarr input).
        options: `PredictionOptions`.
        gif: file to write one plane of a time series to, with one contrast for all frames.
        gif_plane: int. Its index along Z; the central one by default.
        colors: list of `"#rrggbb"`, one per channel, for display; of several models.
        resume: bool. Write missing results only; a stopped run goes on with its next frame.
        force, progress: bool. Replace own existing files; show progress on standard error.
        strict: bool. Stop at the first input that fails, also by pages or chunks without data.
        **fields: of `PredictionOptions`, in place of `options` or of some of them.

    Returns:
        List of the `Path` of every result, in the order of the inputs; each is followed by
        that of its scale (with `uncertainty`; in a folder `uncertainty` beside it), or by a
        figure of several structures (`.png`), each the maximum over Z in its color. The GIF
        comes last. A channel of several models is named by the model's card, with the model's
        name in front where two would be the same.

    Raises:
        OSError, ValueError: naming the file, model, option, or output of another run.
        Failures: at the end, if some of several inputs failed; all others are done.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "cells.npy")
        >>> np.save(path, np.random.default_rng(0).random((8, 32, 32)))
        >>> predict(path, "simulated_denoiser", path.with_name("out.tif"), axes="ZYX")[0].name
        'out.tif'
    """
    options, named = collect_options(options, fields), name_models(models)
    several, sources = len(named) > 1, find(inputs)
    _check_count(several, options, colors)
    outputs = plan_outputs(sources, Path(out), several, options.uncertainty, gif)
    missing = list_missing(sources, outputs, options.dtype, resume=resume, force=force)
    failed = {}
    if missing:
        with lock(outputs[0].result):  # so that the same run, started twice, is refused
            predictors = load_models(named, options.precision)
            for name, predictor in predictors.items():
                check_dtype(predictor.card, options, name)
            run = _Run(predictors, options, gif_plane, colors, resume, force, strict)
            failed = run.predict_all(missing, progress, strict or len(sources) == 1)
    return _list_written(sources, outputs, failed)


def _list_written(sources, outputs, failed):
    pairs = zip(map(str, sources), outputs)
    written = [path for name, one in pairs if name not in failed for path in one.paths]
    if failed:
        raise Failures(failed, len(sources), written)
    return written


@dataclass(frozen=True)
class _Run:
    """The models and options of a run, for one input after the other."""

    predictors: dict[str, Predictor]
    options: PredictionOptions
    gif_plane: int | None
    colors: Sequence | None
    resume: bool
    force: bool
    strict: bool

    def predict_all(self, pairs, progress, at_once):
        """Predict each `(source, outputs)`; return the errors by input, or raise the first."""
        failed, many = {}, progress and len(pairs) > 1
        for source, outputs in tqdm(pairs, desc="predict", unit="file", disable=not many):
            try:
                with lock(outputs.result):
                    self.predict(source, outputs, progress and not many)
            except INPUT_ERRORS as error:
                if at_once or getattr(error, "errno", None) in FULL:
                    raise
                logger.error(f"left out: {_explain(str(source), error)}")
                failed[str(source)] = error
        return failed

    def predict(self, source, outputs, progress):
        """Predict one input, and write its results."""
        image = time_series.open_input(source, self.options, self.strict)
        several = len(self.predictors) > 1
        if several and "T" not in image.axes:  # read once for all models
            image = replace(image, array=np.asarray(image.array[...]))
        images = {}
        for name, predictor in self.predictors.items():
            card, channels = predictor.card, self.options.input_channels
            images[name] = time_series.select_channels(image, card, channels)
            check_result(images[name], card, outputs, self.options, self.gif_plane)
        settings = self._settings(source, image)
        with keep_parts(outputs.result, settings, resume=self.resume, force=self.force) as parts:
            answers = self._predict_models(images, parts, progress)
            if several:
                self._write_structures(answers, outputs)
            else:
                ((name, (results, info)),) = answers.items()
                self._write(results, outputs, self._describe(name, info), None)

    def _settings(self, source, image):
        """Return all that parts of a result depend on."""
        stamp = [str(source), source.path.stat().st_mtime_ns]
        about = [*stamp, image.axes, image.shape, dict(image.voxel_size)]
        settings = {"input": about, **self.options.resume_key()}
        for name, predictor in self.predictors.items():
            card = predictor.card.to_dict() | {"precision": predictor.precision}
            settings |= {f"{key} of {name or 'the model'}": value for key, value in card.items()}
        return settings

    def _predict_models(self, images, parts, progress):
        """Return `(results, info)` by name; models that want the input alike share it."""
        groups, answers = {}, {}
        for name, image in images.items():
            card = self.predictors[name].card
            voxel_size = dict(card.voxel_size) if self.options.resample else None
            needs = str([image.channel_names, card.input_normalizer, voxel_size])
            groups.setdefault(needs, []).append(name)
        for names in groups.values():
            card = self.predictors[names[0]].card
            series = time_series.prepare(images[names[0]], card, self.options)
            for name in names:
                # A single result is not worth a part: it is written at once.
                frames = parts if "T" in series.image.axes else None
                if len(images) > 1:
                    frames = parts.inner(list(images).index(name))
                answers[name] = time_series.predict_frames(
                    series, self.predictors[name], self.options, frames, progress
                )
        return {name: answers[name] for name in images}

    def _write_structures(self, answers, outputs):
        merged = merge_structures({name: images[0] for name, (images, _) in answers.items()})
        names = merged.channel_names
        if self.colors and len(self.colors) != len(names):
            raise ValueError(
                f"`colors` must be one '#rrggbb' for each of the {len(names)} channels "
                f"({', '.join(names)}). Received: {list(self.colors)}."
            )
        colors = tuple(self.colors or display.choose_colors(len(names)))
        models = [
            self._describe(name, info) | {"channels": images[0].sizes.get("C", 1)}
            for name, (images, info) in answers.items()
        ]
        self._write([merged], outputs, {"models": models}, colors)

    def _describe(self, name, info):
        return {"model": name, "precision": self.predictors[name].precision, **info}

    def _write(self, images, outputs, about, colors):
        """Write the results last: where they are, everything is."""
        options, dtype, force = self.options, self.options.dtype, self.force or self.resume
        if options.flip_average:
            about["flip_average"] = True
        if options.frames is not None:
            about["frames"] = str(options.frames)
        if outputs.movie:
            display.write_movie(outputs.movie, images[0], self.gif_plane, colors, force=force)
        if outputs.figure:
            display.write_merged_figure(outputs.figure, images[0], colors, force=force)
        for path, image in zip((outputs.result, outputs.uncertainty), images):
            writers.write(path, image, dtype=dtype, metadata=about, colors=colors, force=force)


def _explain(name, error):
    text = str(error) or type(error).__name__
    return text if name in text else f"{name}: {text}"


def _check_count(several, options, colors):
    if several and options.uncertainty:
        raise ValueError(
            "The scale (--uncertainty, `uncertainty`) is written for one model at a time, and here "
            "are several: predict them apart for it."
        )
    if colors is not None and not several:
        raise ValueError(
            f"`colors` are of an image of several models, and here is one. Received: {colors}."
        )
