"""Scores of one image: how close a prediction is to the truth.

Every score takes `(true, prediction)`, two arrays of one shape and any rank, without a batch
or channel axis: a score mixes all voxels. Everything is computed in float64. An array that is
empty, holds NaN or infinity, or differs in shape raises `ValueError`, and so does a
`data_range` (the largest minus the smallest value that an image can have) that is not above 0.
A score that two valid arrays do not define (the correlation with a constant, say) is `nan`,
and each function says when.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

WINDOW = 7  # voxels along each axis of the SSIM window, scikit-image's default
LOW, HIGH = 0.1, 99.9  # percentiles of the truth sent to 0 and 1 by `affine_fit`


def pearson(true: ArrayLike, prediction: ArrayLike) -> float:
    """Pearson correlation `r`, -1 to 1; `nan` if either array is constant.

    Examples:
        >>> round(pearson([1, 2, 3, 4], [1, 3, 2, 4]), 6)
        0.8
    """
    true, prediction = _check(true, prediction)
    if not (np.ptp(true) and np.ptp(prediction)):
        return math.nan
    t, p = _scale_to_one(true - true.mean()), _scale_to_one(prediction - prediction.mean())
    return float(np.clip(np.vdot(t, p) / np.sqrt(np.vdot(t, t) * np.vdot(p, p)), -1.0, 1.0))


def r2(true: ArrayLike, prediction: ArrayLike) -> float:
    """Coefficient of determination, 1 at best; `nan` if `true` is constant.

    One minus the squared error over the squared deviation of `true` from its mean: 0
    for the mean itself, below 0 for worse. It is not the square of `pearson`.

    Examples:
        >>> r2([1, 2, 3, 4], [2.5, 2.5, 2.5, 2.5])
        0.0
    """
    true, prediction = _check(true, prediction)
    if np.ptp(true) == 0:
        return math.nan
    return float(1 - np.mean((true - prediction) ** 2) / np.var(true))


def mae(true: ArrayLike, prediction: ArrayLike) -> float:
    """Mean absolute error, in the unit of the arrays.

    Examples:
        >>> mae([0, 2, 4], [1, 0, 4])
        1.0
    """
    true, prediction = _check(true, prediction)
    return float(np.mean(np.abs(true - prediction)))


def mse(true: ArrayLike, prediction: ArrayLike) -> float:
    """Mean squared error, in the squared unit of the arrays.

    Examples:
        >>> mse([0, 2, 4], [1, 0, 5])
        2.0
    """
    true, prediction = _check(true, prediction)
    return float(np.mean((true - prediction) ** 2))


def normalized_l2(true: ArrayLike, prediction: ArrayLike) -> float:
    """Squared error relative to that of a blank image, which scores 1.0.

    `MSE(true, prediction) / MSE(true, 0)`; `nan` if `true` is 0 everywhere.

    Reference:
        Ounkomol et al. (2018). https://doi.org/10.1038/s41592-018-0111-2

    Examples:
        >>> normalized_l2([0, 2, 4], [1, 0, 4])
        0.25
    """
    blank = mse(true, np.zeros_like(true))
    return mse(true, prediction) / blank if blank else math.nan


def psnr(true: ArrayLike, prediction: ArrayLike, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB; infinite without error.

    Examples:
        >>> psnr([0, 0], [10, 10], data_range=100)
        20.0
    """
    return _to_decibel(mse(true, prediction), _check_range(data_range))


def ssim(true: ArrayLike, prediction: ArrayLike, data_range: float) -> float:
    """Structural similarity, averaged over the image; 1 for equal images.

    A uniform window of 7 voxels along every axis, otherwise scikit-image's defaults. Along an
    axis shorter than 7, images are compared plane by plane and the values averaged (a stack of
    5 planes: five 2-D values). `nan` if every axis is shorter than 7.

    Reference:
        Wang et al. (2004), Image quality assessment. https://doi.org/10.1109/TIP.2003.819861

    Examples:
        >>> image = np.arange(64.0).reshape(8, 8)
        >>> round(ssim(image, image[::-1], data_range=63), 2)
        -0.93
    """
    return _mean_ssim(*_check(true, prediction), _check_range(data_range))


def affine_fit(true: ArrayLike, prediction: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Scale the truth to 0..1 and fit the prediction to it by a gain and an offset.

    Returns:
        `g = N(true; 0.1, 99.9) - mean` and `x = a (prediction - mean)`, centered float64 arrays
        without unit. In `a = cov(prediction, g; ddof 1) / var(prediction; ddof 0)` the degrees
        of freedom differ as in the published scores. `x` is 0 if `prediction` is constant;
        both are `nan` if the two percentiles of `true` are equal, as in a nearly empty image.

    Reference:
        Wang, Xie & Ji (2021), section 4.4, after Weigert et al. (2018).
        https://doi.org/10.1038/s42256-020-00283-x

    Examples:
        >>> g, x = affine_fit([0, 1, 2, 3], [10, 20, 30, 40])
        >>> g.round(2), (x / g).round(2)
        (array([-0.5 , -0.17,  0.17,  0.5 ]), array([1.33, 1.33, 1.33, 1.33]))
    """
    true, prediction = _check(true, prediction)
    low, high = np.percentile(true, (LOW, HIGH))
    if not high > low:
        return np.full_like(true, np.nan), np.full_like(true, np.nan)
    g = (true - low) / (high - low)
    g -= g.mean()
    if np.ptp(prediction) == 0:
        return g, np.zeros_like(g)
    x = _scale_to_one(prediction - prediction.mean())
    gain = np.vdot(x, g) / (x.size - 1) / np.mean(x**2)
    return g, gain * x


def nrmse_fit(true: ArrayLike, prediction: ArrayLike) -> float:
    """Root of the mean squared error after `affine_fit`, not divided again.

    Examples:
        >>> round(nrmse_fit(np.arange(1000), 5 + 2 * np.arange(1000)), 4)
        0.0003
    """
    return _rmse(*affine_fit(true, prediction))


def psnr_fit(true: ArrayLike, prediction: ArrayLike) -> float:
    """Peak signal-to-noise ratio in dB after `affine_fit`, for a data range of 1.

    Examples:
        >>> round(psnr_fit(np.arange(1000), 5 + 2 * np.arange(1000)), 1)
        70.8
    """
    return _to_decibel(nrmse_fit(true, prediction) ** 2, 1.0)


def ssim_fit(true: ArrayLike, prediction: ArrayLike) -> float:
    """Structural similarity after `affine_fit`, of the centered images, for a data range of 1.

    Examples:
        >>> image = np.arange(64.0).reshape(8, 8)
        >>> round(ssim_fit(image, 5 + 2 * image), 2)
        1.0
    """
    return _mean_ssim(*affine_fit(true, prediction), 1.0)


def all_metrics(
    true: ArrayLike, prediction: ArrayLike, data_range: float | None = None
) -> dict[str, float]:
    """Compute every score of this module.

    Args:
        data_range: float, for `psnr` and `ssim`. `None` measures that of `true`, which must
            not be constant then.

    Returns:
        Mapping from score (`r` for `pearson`), and from `data_range`, to a float.

    Examples:
        >>> image = np.arange(64.0).reshape(8, 8)
        >>> scores = all_metrics(image, image + 1)
        >>> scores["r"], scores["mae"], scores["data_range"]
        (1.0, 1.0, 63.0)
    """
    true, prediction = _check(true, prediction)
    if data_range is None and (data_range := np.ptp(true)) == 0:
        raise ValueError(
            f"The truth is constant: there is nothing to score against. Received: "
            f"{true.flat[0]:g} in all {true.size} voxels. Leave this image or region out, or give "
            f"`data_range`."
        )
    scores = {"r": pearson(true, prediction)}
    scores |= {f.__name__: f(true, prediction) for f in (r2, mae, mse, normalized_l2)}
    scores |= {f.__name__: f(true, prediction, data_range) for f in (psnr, ssim)}
    g, x = affine_fit(true, prediction)
    error = _rmse(g, x)
    scores |= {"nrmse_fit": error, "psnr_fit": _to_decibel(error**2, 1.0)}
    return scores | {"ssim_fit": _mean_ssim(g, x, 1.0), "data_range": float(data_range)}


def _check(true, prediction):
    """Return both as float64, if they have one shape and finite values."""
    true, prediction = np.asarray(true), np.asarray(prediction)
    if true.shape != prediction.shape or not true.size:
        raise ValueError(
            f"`true` and `prediction` must have one shape, and voxels in it. "
            f"Received: true {true.shape}, prediction {prediction.shape}."
        )
    for name, array in {"true": true, "prediction": prediction}.items():
        if bad := array.size - np.count_nonzero(np.isfinite(array)):
            raise ValueError(
                f"`{name}` holds {bad} values that are NaN or infinite, out of {array.size}: "
                f"replace them before scoring."
            )
    return true.astype(np.float64, copy=False), prediction.astype(np.float64, copy=False)


def _check_range(data_range):
    if not data_range > 0:
        raise ValueError(f"`data_range` must be above 0. Received: data_range={data_range!r}.")
    return float(data_range)


def _scale_to_one(x):
    # To at most 1, so that no square overflows or vanishes. Scores keep their value.
    return x / np.abs(x).max()


def _rmse(true, prediction):
    return float(np.sqrt(np.mean((true - prediction) ** 2)))


def _to_decibel(error, data_range):
    return 10 * math.log10(data_range**2 / error) if error != 0 else math.inf


def _mean_ssim(true, prediction, data_range):
    from skimage.metrics import structural_similarity

    long = [size for size in true.shape if size >= WINDOW]
    if not long or np.isnan(true).any():
        return math.nan
    short = [i for i, size in enumerate(true.shape) if size < WINDOW]
    # An axis in place of all short ones, the first.
    moved = (np.moveaxis(x, short, range(len(short))) for x in (true, prediction))
    planes = zip(*(x.reshape(-1, *long) for x in moved))
    return float(np.mean([structural_similarity(t, p, data_range=data_range) for t, p in planes]))
