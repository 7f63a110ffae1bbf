"""The full virtual staining network: memory and time of training, and of a whole image.

    python benchmarks/staining.py [--json FILE] [--rounds N] [--quick]

The preset `gpt_virtual_staining` on 13 planes at three scales (39 channels). A training step
is `train_on_batch` on four windows of 128 x 128, eight labels of 256 classes, with Adam and the
published loss, with attention in chunks of 2,048 queries and with all queries at once. A
prediction is `Predictor.predict` of 1,024 x 1,024 pixels, three labels, windows with step 64.
The two ways of the step take turns in one process; every peak is the high-water mark of a
fresh process, all of it: TensorFlow, weights and Adam included.
"""

import time

import timing

PLANES, LABELS, ASKED, CHUNK = 13, 8, (0, 2, 3), 2048
SIZES = {
    False: {"window": 128, "batch": 4, "image": 1024},
    True: {"window": 32, "batch": 1, "image": 64},
}
SMALL = {"filters": 8, "growth": 4, "classes": 16}


def network(quick, chunk=CHUNK):
    """The preset, built and compiled as published."""
    import keras

    from gvtnets_tf import preset
    from gvtnets_tf.models.losses import LOSSES

    keras.utils.set_random_seed(0)
    model = preset("gpt_virtual_staining", chunk=chunk, **(SMALL if quick else {}))
    model.build((None, None, None, 3 * PLANES))
    model.compile(keras.optimizers.Adam(1e-5), LOSSES["masked_crossentropy"](), jit_compile=False)
    return model


def step(quick, chunk):
    """A training step, as a function without arguments."""
    import numpy as np

    model, size = network(quick, chunk), SIZES[quick]
    rng, shape = np.random.default_rng(0), (size["batch"], size["window"], size["window"])
    x = rng.standard_normal((*shape, 3 * PLANES), np.float32)
    y = rng.integers(0, model.classes, (*shape, LABELS)).astype("int32")
    return lambda: model.train_on_batch(x, y)


def step_peak(quick, chunk):
    """High-water mark of a process that makes three training steps, in bytes."""
    run = step(quick, chunk)
    for _ in range(3):
        run()
    return timing.measure_high_water()


def prediction(quick):
    """Seconds of predicting an image of three labels, and the high-water mark in bytes."""
    import numpy as np

    from gvtnets_tf.images.image import Image
    from gvtnets_tf.images.normalization import Normalizer
    from gvtnets_tf.prediction.predictor import Predictor
    from gvtnets_tf.zoo.card import Card

    size = SIZES[quick]
    model = network(quick)
    card = Card(
        axes="YX", output_axes="YX", input_normalizer=Normalizer("zscore"), denormalize="none",
        scales=(1, 2, 0.5),
        tile=(size["window"],) * 2, classes=model.classes,
    )  # fmt: skip
    predictor = Predictor(model, card)
    planes = np.random.default_rng(0).integers(0, 4096, (PLANES, *(size["image"],) * 2), np.uint16)
    image = Image(planes, "CYX")
    predictor.predict(image.crop({"Y": (0, size["window"])}), output_channels=ASKED)
    start = time.perf_counter()
    predictor.predict(image, output_channels=ASKED)
    return time.perf_counter() - start, timing.measure_high_water()


def measure(quick, rounds):
    ways = {"chunked": CHUNK, "all queries": None}
    seconds = timing.time_best({name: step(quick, chunk) for name, chunk in ways.items()}, rounds)
    peaks = {
        name: timing.run_in_process(step_peak, quick, chunk) / 2**30 for name, chunk in ways.items()
    }
    predicting, peak = timing.run_in_process(prediction, quick)
    megapixels = SIZES[quick]["image"] ** 2 / 1e6
    return {
        "parameters": network(quick).count_params(),
        "step": {"seconds": seconds, "peak_gib": peaks},
        "prediction": {
            "seconds": predicting,
            "seconds_per_megapixel": predicting / megapixels,
            "peak_gib": peak / 2**30,
        },
        "ratios": {
            "chunked_to_all_queries_seconds": seconds["chunked"] / seconds["all queries"],
            "chunked_to_all_queries_peak": peaks["chunked"] / peaks["all queries"],
        },
    }


if __name__ == "__main__":
    timing.run(measure, __doc__, rounds=3)
