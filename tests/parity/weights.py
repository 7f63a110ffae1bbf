"""What the published networks were run with: weights that follow from names, inputs from seeds.

Any port that gives the same values to the same names must answer with the same numbers. The
stream of `RandomState` is frozen by NumPy (NEP 19), so the values never change.
"""

import zlib

import numpy as np

# By case: seed of the input (that of the target is the next one), and the shapes of both.
CASES = {
    "label_free": (20260, (2, 32, 64, 64, 1), (2, 32, 64, 64, 1)),
    "denoising": (20262, (2, 16, 64, 64, 1), (2, 16, 64, 64, 1)),
    "projection": (20264, (2, 50, 64, 64, 1), (2, 64, 64, 1)),
    "fnet": (20270, (2, 1, 16, 32, 32), (2, 1, 16, 32, 32)),
}


def draw(case):
    """Draw the input and the target of a case: standard normal noise.

    Args:
        case: str. One of `CASES`.

    Returns:
        Dict of float32 arrays: `"x"`, the input, and `"y"`, the target, both with the axes
        of the published code: `(sample, z, y, x, channel)`, without z for the target of
        `"projection"`, and `(sample, channel, z, y, x)` for `"fnet"`.
    """
    seed, *shapes = CASES[case]
    return {
        name: np.random.RandomState(seed + i).normal(0.0, 1.0, shape).astype("float32")
        for i, (name, shape) in enumerate(zip("xy", shapes))
    }


def weight(name, shape):
    """Draw the value of a published variable.

    Args:
        name: str. Of TensorFlow (`a/b/kernel`) or torch (`a.b.weight`); its last word says
            how the values are distributed.
        shape: sequence of int. As published: kernels are `(*kernel, in, out)` in TensorFlow
            and `(out, in, *kernel)` in torch.

    Returns:
        float32 array of that shape.

    Raises:
        KeyError: if the last word of `name` is not known.
    """
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    leaf = name.rsplit("/", 1)[-1].rsplit(".", 1)[-1]
    shape = tuple(shape)
    if leaf in ("moving_variance", "running_var"):
        value = rng.uniform(0.5, 1.5, shape)
    elif leaf in ("moving_mean", "running_mean", "beta"):
        value = rng.normal(0.0, 0.1, shape)
    elif leaf == "bias":
        value = rng.normal(0.0, 0.05, shape)
    elif leaf == "gamma" or (leaf == "weight" and len(shape) == 1):
        value = rng.uniform(0.8, 1.2, shape)
    elif leaf == "kernel":
        value = rng.normal(0.0, 1.0, shape) / np.sqrt(np.prod(shape[:-1]))
    elif leaf == "weight":
        value = rng.normal(0.0, 1.0, shape) / np.sqrt(np.prod(shape[1:]))
    else:
        raise KeyError(name)
    return value.astype("float32")


def probe(name, shape):
    """Draw the direction along which the gradient of a published variable is compared.

    Args:
        name: str. As for `weight`.
        shape: sequence of int. As for `weight`.

    Returns:
        float32 array of that shape, standard normal.
    """
    rng = np.random.RandomState(zlib.crc32((name + "/probe").encode()))
    return rng.normal(0.0, 1.0, tuple(shape)).astype("float32")
