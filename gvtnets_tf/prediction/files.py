"""Files through a predictor, into files."""

import contextlib
from pathlib import Path

from gvtnets_tf.checks import check_choice
from gvtnets_tf.images import display, writers
from gvtnets_tf.prediction import outputs, partial_results, time_series


def predict(
    inputs, model, out, *, axes=None, input_channels=None, voxel_size=None, resample=False,
    flips=False, frames=None, statistics="frame", gif=None, gif_plane=None, dtype=None,
    uncertainty=False, precision="float32", resume=False, force=False, progress=True, **options,
):  # fmt: skip
    """Predict files and write the results.

    Args:
        inputs: a file, a quoted glob, a folder, a `.zarr`, or a list of these; or a folder of
            the in-silico labeling data set, whose wells are predicted.
        model: zoo name, model folder, or `Predictor`.
        out: for one input and with a suffix, the file to write; else a folder, in which
            each result has the stem of its input and `.tif` (`.zarr` for a Zarr input).
        axes: str. Axes of the inputs, in place of what the files say.
        input_channels: list of int or str. The channels the network wants, in its order.
            By default those that its card names, where the file names them too.
        voxel_size: micrometers in place of what the files say: a mapping from axis letter,
            or one number per spatial axis, in the order Z, Y, X.
        resample: bool. Resample an input whose voxels differ from those the model was
            trained on, and the result back to the grid of the input.
        flips: bool. Predict the mean over the four mirror images along Y and X.
        frames: str `"A:B:STEP"` or slice. Frames of a time series, as Python counts.
        statistics: of a time series: `"frame"`, each frame is normalized by its own;
            `"series"`, by those of all frames. Or an `Affine` measured elsewhere.
        gif: file to write one plane of a time series to, with one contrast for all frames.
        gif_plane: int. Which plane along Z that is; the central one by default.
        dtype: type of the results; float32 where `None`. Values are rounded and
            clipped, and the clipped share is said on standard error.
        uncertainty: bool. Also write the scale of a probabilistic network, to a file
            whose stem ends in `_uncertainty`.
        precision: `"float32"` or `"bfloat16"`, which is faster and less exact.
        resume: bool. Leave the inputs whose results are there, and write the missing ones.
            A time series that was stopped goes on with the next frame.
        force: bool. Whether existing files are replaced.
        progress: bool. Show progress on standard error.
        **options: `tile`, `whole`, `overlap`, `blend`, `max_memory`, `batch`, `labels`,
            `estimate`: see `Predictor.predict`.

    Returns:
        List of the `Path` of every result, in the order of the inputs; with `uncertainty`
        each is followed by that of its scale. The GIF comes last.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: naming the file and the reason.
    """
    paths = outputs.found(inputs)
    if dtype is not None:
        check_choice("dtype", str(dtype), writers.DTYPES)
    endings = ("", "_uncertainty") if uncertainty else ("",)
    movie = outputs.check_gif(gif, paths)
    results = [
        [outputs.beside(place, ending) for ending in endings] + movie
        for place in outputs.places(paths, Path(out))
    ]
    todo = outputs.todo(paths, results, dtype, resume=resume, force=force)
    # Only now, so that a wrong file name does not wait for TensorFlow.
    from tqdm import tqdm

    from gvtnets_tf.prediction.loading import load
    from gvtnets_tf.prediction.predictor import Predictor
    from gvtnets_tf.prediction.test_time_augmentation import averaged

    predictor = model if isinstance(model, Predictor) else load(model, precision=precision)
    predictor = averaged(predictor) if flips else predictor
    about = {
        "model": "" if isinstance(model, Predictor) else str(model),
        **outputs.about(precision, flips, frames),
    }
    options |= {"uncertainty": uncertainty}
    how = {"statistics": statistics, "resample": resample}
    many = progress and len(todo) > 1
    for path, written in tqdm(todo, desc="predict", unit="file", disable=not many):
        image = outputs.opened(path, axes, voxel_size, frames)
        image = outputs.channels(image, predictor.card, input_channels)
        labels = options.get("labels")
        outputs.check_result(image, predictor.card, written[0], movie, gif_plane, labels)
        asked = {**about, **how, "input_channels": input_channels}
        settings = outputs.settings(path, image, predictor.card.to_dict(), options, **asked)
        kept = partial_results.parts(written[0], settings, resume=resume, force=force)
        with kept if "T" in image.axes else contextlib.nullcontext() as finished:
            prepared = time_series.prepare(image, predictor.card, **how)
            images, info = time_series.run(
                prepared, predictor, finished, progress=progress and not many, **options
            )
            # The movie first: where the result is, everything is.
            for file in movie:
                display.write_movie(file, images[0], gif_plane, force=force or resume)
            for output, part in zip(written, images):
                writers.write(
                    output, part, dtype=dtype, metadata={**about, **info}, force=force or resume
                )
    return [output for written in results for output in written]
