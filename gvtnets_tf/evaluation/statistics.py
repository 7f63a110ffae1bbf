"""From scores per image to a statement about a model."""

import math

import numpy as np

FEWEST = 5  # pairs below which no p-value is given


def summarize(values):
    """Mean, standard deviation (ddof 1), median and number of scores.

    Args:
        values: sequence of float, one per image. `nan` means "no score" and is left
            out; `n` says how many remain.

    Returns:
        Mapping with `n`, `mean`, `sd`, `median`. What too few values do not define is
        `nan`, and so is the deviation of scores that are infinite.
    """
    x = _numbers("values", values)
    x = x[~np.isnan(x)]
    return {
        "n": len(x),
        "mean": float(x.mean()) if len(x) else math.nan,
        "sd": float(x.std(ddof=1)) if len(x) > 1 and np.isfinite(x).all() else math.nan,
        "median": float(np.median(x)) if len(x) else math.nan,
    }


def paired_t_test(better, worse):
    """Test whether the first of each pair of scores is greater on average.

    A paired, one-tailed t-test with n - 1 degrees of freedom.

    Args:
        better: sequence of float, one score per image, of what is claimed to be better.
        worse: sequence of float, the scores of the same images in the same order. For
            an error, where less is better, swap the two.

    Returns:
        Mapping with `n` (pairs in which both scores are finite), `mean_difference`,
        `df`, `t`, `p` and `note`. `t` and `p` are `None`, and `note` says why, for
        fewer than five pairs or if all differences are equal.

    Raises:
        ValueError: if the two differ in length.

    Reference:
        The test of Wang, Xie & Ji (2021), Fig. 2b.
        https://doi.org/10.1038/s42256-020-00283-x
    """
    better, worse = _numbers("better", better), _numbers("worse", worse)
    if len(better) != len(worse):
        raise ValueError(
            f"`better` and `worse` must hold one score each per image. "
            f"Received: {len(better)} and {len(worse)}."
        )
    both = np.isfinite(better) & np.isfinite(worse)
    difference = better[both] - worse[both]
    n = len(difference)
    mean = float(difference.mean()) if n else math.nan
    result = {"n": n, "mean_difference": mean, "df": max(n - 1, 0), "t": None, "p": None}
    if n < FEWEST:
        return result | {"note": "n too small"}
    # Differences that are equal but for rounding would make t as large as one likes.
    if np.ptp(difference) <= 1e-12 * np.abs(difference).max():
        return result | {"note": "all differences are equal"}
    return result | _one_tailed(difference) | {"note": ""}


def _one_tailed(difference):
    from scipy.stats import ttest_1samp

    test = ttest_1samp(difference, 0.0, alternative="greater")
    return {"t": float(test.statistic), "p": float(test.pvalue)}


def _numbers(name, values):
    x = np.asarray(values, np.float64)
    if x.ndim != 1:
        raise ValueError(f"`{name}` must be a list of scores. Received: shape {x.shape}.")
    return x
