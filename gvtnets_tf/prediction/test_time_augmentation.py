"""A network that looks at an image four times, mirrored, and answers with the mean."""

import itertools

import numpy as np

from gvtnets_tf.prediction.engines.keras import runner
from gvtnets_tf.prediction.predictor import Predictor

LEAST = 1e-30  # probability, whose logarithm is a number


class Flips:
    """The mean over the four mirror images along Y and X of what a network answers.

    Each tile, or the whole image where there are none, goes through the network four
    times: as it is, mirrored along Y, along X, and along both; each answer is mirrored
    back. A scale is averaged as a location is. Of a network with classes, distributions
    are averaged, and logits of their mean are the answer. All else is asked of the
    network itself.

    Args:
        model: callable, as `Predictor` takes it.
        card: its `Card`, which says where Y and X are.

    Reference:
        Ounkomol et al. (2018), Label-free prediction of three-dimensional fluorescence
        images, Nat. Methods 15, 917-920, in its released code.
        https://doi.org/10.1038/s41592-018-0111-2
    """

    def __init__(self, model, card):
        self.model, self.card = model, card
        self.run = runner(model, softmax=bool(card.classes))
        # The batch comes before the grid.
        self.axes = [(1 + card.axes.index(a), 1 + card.output_axes.index(a)) for a in "YX"]

    def __call__(self, x):
        total = 0
        for mirrored in itertools.product((False, True), repeat=len(self.axes)):
            there, back = zip(*self.axes)
            y = self.run(_mirror(x, there, mirrored))
            total = total + _mirror(y, back, mirrored)
        mean = total / 2 ** len(self.axes)
        return np.log(np.maximum(mean, LEAST)) if self.card.classes else mean

    def __getattr__(self, name):
        found = getattr(vars(self)["model"], name)
        if name == "select_outputs":  # some channels of the network, mirrored as well
            return lambda labels: Flips(found(labels), self.card)
        return found


def averaged(predictor):
    """Return a predictor that takes the mean over the four flips; see `Flips`."""
    return Predictor(Flips(predictor.model, predictor.card), predictor.card)


def _mirror(x, axes, mirrored):
    index = [slice(None)] * x.ndim
    for axis, turned in zip(axes, mirrored):
        index[axis] = slice(None, None, -1) if turned else slice(None)
    return x[tuple(index)]
