"""Processes of their own that need not import TensorFlow: it takes seconds."""

import multiprocessing

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["gvtnets_tf.training.fitting"])  # imports the rest
