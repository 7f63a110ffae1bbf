"""Mean, deviation and paired t-test of scores, one per image."""

import math
from collections.abc import Sequence

import numpy as np

FEWEST = 5  # pairs below which no p-value is given


def summarize(values: Sequence[float]) -> dict[str, float]:
    """Return mean, standard deviation (ddof 1), median and number of scores.

    Args:
        values: sequence of float, one per image; `nan` means "no score" and is left out.

    Returns:
        Mapping with `n` (scores that remain), `mean`, `sd`, `median`; `nan` where these are too
        few, and for the deviation of infinite scores.

    Examples:
        >>> summarize([1.0, 2.0, 6.0, float("nan")])["median"]
        2.0
    """
    x = _to_array("values", values)
    x = x[~np.isnan(x)]
    return {
        "n": len(x),
        "mean": float(x.mean()) if len(x) else math.nan,
        "sd": float(x.std(ddof=1)) if len(x) > 1 and np.isfinite(x).all() else math.nan,
        "median": float(np.median(x)) if len(x) else math.nan,
    }


def paired_t_test(better: Sequence[float], worse: Sequence[float]) -> dict:
    """Test whether the first of each pair of scores is greater on average.

    A paired, one-tailed t-test with n - 1 degrees of freedom.

    Args:
        better: sequence of float, one score per image, of the method claimed to be better.
        worse: likewise, of the same images in the same order. For an error, swap the two.

    Returns:
        Mapping with `n` (pairs in which both scores are finite), `mean_difference`, `df`, `t`,
        `p` and `note`. For fewer than five pairs, or if all differences are equal, `t` and `p`
        are `None`, and `note` gives the reason.

    Raises:
        ValueError: if the two differ in length.

    Reference:
        Wang, Xie & Ji (2021), Fig. 2b. https://doi.org/10.1038/s42256-020-00283-x

    Examples:
        >>> test = paired_t_test([0.9, 0.8, 0.9, 0.7, 0.9], [0.7, 0.7, 0.6, 0.6, 0.7])
        >>> test["n"], round(test["t"], 2), round(test["p"], 4)
        (5, 4.81, 0.0043)
    """
    better, worse = _to_array("better", better), _to_array("worse", worse)
    if len(better) != len(worse):
        raise ValueError(
            f"`better` and `worse` must hold one score each per image. "
            f"Received: {len(better)} and {len(worse)}."
        )
    both = np.isfinite(better) & np.isfinite(worse)
    difference = better[both] - worse[both]
    n = len(difference)
    mean = float(difference.mean()) if n else math.nan
    test = {"n": n, "mean_difference": mean, "df": max(n - 1, 0), "t": None, "p": None}
    if n < FEWEST:
        return test | {"note": "n too small"}
    # Differences that are equal but for rounding would make t as large as one likes.
    if np.ptp(difference) <= 1e-12 * np.abs(difference).max():
        return test | {"note": "all differences are equal"}
    from scipy.stats import ttest_1samp

    t, p = ttest_1samp(difference, 0.0, alternative="greater")
    return test | {"t": float(t), "p": float(p), "note": ""}


def _to_array(name, values):
    x = np.asarray(values, np.float64)
    if x.ndim != 1:
        raise ValueError(f"`{name}` must be a list of scores. Received: shape {x.shape}.")
    return x
