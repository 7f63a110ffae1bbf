"""Checkpoints as they were released: the published names, and the memory of Adam."""

import json

import numpy as np
import tensorflow as tf
from parity.weights import draw, weight

from gvtnets_tf.zoo.weight_names import is_weight


class Parity:
    """Weights, inputs and answers of the published networks."""

    def __init__(self, path):
        self.path = path

    def answers(self, task):
        """What a network was given (`x`, `y`), and what it answered."""
        with np.load(self.path / f"{task}.npz") as found:
            return draw(task) | dict(found)

    def variables(self, task):
        """The weights of a released checkpoint by name."""
        held = json.loads((self.path / "published_checkpoints.json").read_text())
        return {n: weight(n, s) for n, s in held["variables"][task] if is_weight(n)}

    def state(self):
        """The published state of pytorch_fnet, with its counters."""
        held = json.loads((self.path / "published_fnet_state_dict.json").read_text())
        counter = np.array(7, np.int64)
        return {n: weight(n, s) if s else counter for n, s in held["state_dict"]}


def save(prefix, variables):
    """Write a checkpoint as TensorFlow 1 did, with the memory of Adam and counters."""
    extra = {"global_step": np.int64(9), "beta1_power": np.float32(0.5)}
    extra |= {"beta2_power": np.float32(0.999)}
    slots = {f"{n}/Adam{end}": np.ones_like(v) for n, v in variables.items() for end in ("", "_1")}
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        made = {
            n: v1.Variable(value, name=n, use_resource=False)
            for n, value in {**variables, **slots, **extra}.items()
        }
        session.run(v1.global_variables_initializer())
        v1.train.Saver(made).save(session, str(prefix), write_meta_graph=False)
    return prefix
