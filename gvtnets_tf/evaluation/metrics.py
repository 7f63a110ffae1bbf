"""How close a prediction is to the truth: every score takes `(true, prediction)`.

Both are arrays of one shape and any rank, without a batch or channel axis: a score
mixes all voxels. Everything is computed in float64. An array that is empty, holds
NaN or infinity, or differs in shape is an error; a score that two good arrays do not
define (the correlation with a constant, say) is `nan`, and each function says when.
"""

import math

import numpy as np

WINDOW = 7  # voxels along each axis of the SSIM window, scikit-image's default
LOW, HIGH = 0.1, 99.9  # percentiles of the truth sent to 0 and 1 by `fit`


def r(true, prediction):
    """Pearson correlation, -1 to 1; `nan` if either array is constant."""
    true, prediction = _checked(true, prediction)
    if np.ptp(true) == 0 or np.ptp(prediction) == 0:
        return math.nan
    t, p = _scaled(true - true.mean()), _scaled(prediction - prediction.mean())
    return float(np.clip(np.vdot(t, p) / np.sqrt(np.vdot(t, t) * np.vdot(p, p)), -1.0, 1.0))


def r2(true, prediction):
    """Coefficient of determination, 1 at best; `nan` if `true` is constant.

    One minus the squared error over the squared deviation of `true` from its mean: 0
    for the mean itself, below 0 for worse. It is not the square of `r`.
    """
    true, prediction = _checked(true, prediction)
    if np.ptp(true) == 0:
        return math.nan
    return float(1 - np.mean((true - prediction) ** 2) / np.var(true))


def mae(true, prediction):
    """Mean absolute error, in the unit of the arrays."""
    true, prediction = _checked(true, prediction)
    return float(np.mean(np.abs(true - prediction)))


def mse(true, prediction):
    """Mean squared error, in the squared unit of the arrays."""
    true, prediction = _checked(true, prediction)
    return float(np.mean((true - prediction) ** 2))


def normalized_l2(true, prediction):
    """Squared error relative to that of a blank image, which scores 1.0.

    `MSE(true, prediction) / MSE(true, 0)`; `nan` if `true` is 0 everywhere.

    Reference:
        Ounkomol et al. (2018), Label-free prediction of three-dimensional
        fluorescence images, Nat. Methods 15, 917-920.
        https://doi.org/10.1038/s41592-018-0111-2
    """
    blank = mse(true, np.zeros_like(true))
    return mse(true, prediction) / blank if blank else math.nan


def psnr(true, prediction, data_range):
    """Peak signal-to-noise ratio in dB; infinite without error.

    Args:
        true, prediction: arrays of one shape.
        data_range: float. Largest minus smallest value that an image can have.

    Raises:
        ValueError: if `data_range` is not positive, or as for every score.
    """
    return _decibel(mse(true, prediction), _positive(data_range))


def ssim(true, prediction, data_range):
    """Structural similarity, averaged over the image; 1 for equal images.

    A uniform window of 7 voxels along every axis, over the volume as a whole, and
    otherwise scikit-image's defaults. An axis shorter than 7 holds no window: images
    are then compared plane by plane along it (a stack of 5 planes: five 2-D values,
    averaged). `nan` if every axis is shorter than 7.

    Args:
        true, prediction: arrays of one shape.
        data_range: float. Largest minus smallest value that an image can have.

    Raises:
        ValueError: if `data_range` is not positive, or as for every score.

    Reference:
        Wang et al. (2004), Image quality assessment: from error visibility to
        structural similarity, IEEE Trans. Image Process. 13, 600-612.
        https://doi.org/10.1109/TIP.2003.819861
    """
    return _ssim(*_checked(true, prediction), _positive(data_range))


def fit(true, prediction):
    """Bring the truth to 0..1 and the prediction as close to it as gain and offset can.

    `g = N(true; 0.1, 99.9) - mean` and `x = a (prediction - mean)` with
    `a = cov(prediction, g; ddof 1) / var(prediction; ddof 0)`: both are centerd, and
    the two degrees of freedom differ as they do in the published scores.

    Returns:
        `(g, x)`, float64 arrays without unit. `x` is 0 if `prediction` is constant;
        `g` and `x` are `nan` if the two percentiles of `true` are equal, as in an
        image that is empty but for a few voxels.

    Reference:
        Wang, Xie & Ji (2021), Global voxel transformer networks for augmented
        microscopy, Nat. Mach. Intell. 3, 161-171, section 4.4, after Weigert et al.
        (2018). https://doi.org/10.1038/s42256-020-00283-x
    """
    true, prediction = _checked(true, prediction)
    low, high = np.percentile(true, (LOW, HIGH))
    if not high > low:
        return np.full_like(true, np.nan), np.full_like(true, np.nan)
    g = (true - low) / (high - low)
    g -= g.mean()
    if np.ptp(prediction) == 0:
        return g, np.zeros_like(g)
    x = _scaled(prediction - prediction.mean())
    gain = np.vdot(x, g) / (x.size - 1) / np.mean(x**2)
    return g, gain * x


def nrmse_fit(true, prediction):
    """Root of the mean squared error after `fit`, not divided again."""
    return _rmse(*fit(true, prediction))


def psnr_fit(true, prediction):
    """Peak signal-to-noise ratio in dB after `fit`, for a data range of 1."""
    return _decibel(nrmse_fit(true, prediction) ** 2, 1.0)


def ssim_fit(true, prediction):
    """Structural similarity after `fit`, on the centerd images, for a data range of 1."""
    return _ssim(*fit(true, prediction), 1.0)


def all_metrics(true, prediction, data_range=None):
    """Every score of this module.

    Args:
        true, prediction: arrays of one shape.
        data_range: float or `None`. For `psnr` and `ssim`; `None` takes the largest
            minus the smallest value of `true`.

    Returns:
        Mapping from the name of the score to a float; `data_range` is among them.

    Raises:
        ValueError: as for every score, or if `true` is constant and `data_range` is
            not given.
    """
    true, prediction = _checked(true, prediction)
    if data_range is None:
        data_range = float(np.ptp(true))
        if data_range == 0:
            raise ValueError(
                f"The truth is constant: there is nothing to score against. Received: "
                f"{true.flat[0]:g} in all {true.size} voxels. Leave this image or region out, or "
                f"give `data_range`."
            )
    scores = {f.__name__: f(true, prediction) for f in (r, r2, mae, mse, normalized_l2)}
    scores |= {f.__name__: f(true, prediction, data_range) for f in (psnr, ssim)}
    g, x = fit(true, prediction)
    error = _rmse(g, x)
    scores |= {"nrmse_fit": error, "psnr_fit": _decibel(error**2, 1.0)}
    return scores | {"ssim_fit": _ssim(g, x, 1.0), "data_range": float(data_range)}


def _checked(true, prediction):
    arrays = {"true": np.asarray(true), "prediction": np.asarray(prediction)}
    shapes = [array.shape for array in arrays.values()]
    if shapes[0] != shapes[1] or 0 in shapes[0]:
        raise ValueError(
            f"`true` and `prediction` must have one shape, and voxels in it. "
            f"Received: true {shapes[0]}, prediction {shapes[1]}."
        )
    for name, array in arrays.items():
        bad = array.size - np.count_nonzero(np.isfinite(array))
        if bad:
            raise ValueError(
                f"`{name}` holds {bad} values that are NaN or infinite, out of {array.size}: "
                f"replace them before scoring."
            )
    return tuple(np.asarray(array, np.float64) for array in arrays.values())


def _positive(data_range):
    if not data_range > 0:
        raise ValueError(f"`data_range` must be above 0. Received: data_range={data_range!r}.")
    return float(data_range)


def _scaled(x):
    # To at most 1, so that no square overflows or vanishes. Scores keep their value.
    return x / np.abs(x).max()


def _rmse(true, prediction):
    return float(np.sqrt(np.mean((true - prediction) ** 2)))


def _decibel(error, data_range):
    return 10 * math.log10(data_range**2 / error) if error != 0 else math.inf


def _ssim(true, prediction, data_range):
    from skimage.metrics import structural_similarity

    long = [size for size in true.shape if size >= WINDOW]
    if not long or np.isnan(true).any():
        return math.nan
    short = [i for i, size in enumerate(true.shape) if size < WINDOW]
    true, prediction = (
        np.moveaxis(x, short, range(len(short))).reshape(-1, *long) for x in (true, prediction)
    )
    planes = zip(true, prediction)
    return float(np.mean([structural_similarity(t, p, data_range=data_range) for t, p in planes]))
