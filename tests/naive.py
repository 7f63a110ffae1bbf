"""Attention from its definition: one query voxel at a time, in NumPy, O(N^2)."""

import numpy as np


def softmax(x, axis=0):
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


# The weights of all source voxels for one query, of which there are n.
WEIGHTS = {
    "none": lambda k, q, n: k @ q / n,
    "softmax": lambda k, q, n: softmax(k @ q),
    "linear_softmax": lambda k, q, n: softmax(k) @ softmax(q),
}


def attention(layer, query, source):
    """What a `GlobalAttention` must answer, from its weights alone."""
    heads, (key, bias_key, value, bias_value, *result) = layer.num_heads, layer.get_weights()
    activate = {None: lambda x: x, "relu": lambda x: np.maximum(x, 0)}[layer.activation]
    k, v = activate(source @ key + bias_key), activate(source @ value + bias_value)
    n = int(np.prod(query.shape[1:-1]))
    q, k, v = (x.reshape(len(x), -1, heads, x.shape[-1] // heads) for x in (query, k, v))
    if layer.scaled:
        q = q / np.sqrt(q.shape[-1])
    answer = np.zeros((len(q), n, heads, v.shape[-1]))
    for b, i, h in np.ndindex(answer.shape[:-1]):
        weights = WEIGHTS[layer.normalization](k[b, :, h], q[b, i, h], n)
        answer[b, i, h] = weights @ v[b, :, h]
    answer = answer.reshape(*query.shape[:-1], -1)
    return activate(answer @ result[0] + result[1]) if result else answer


def gvto(layer, x):
    """What a `GVTO` must answer; its own layers are used for strided convolutions only."""
    active = x
    if layer.norm == "batch":
        gamma, beta, mean, variance = layer.normalize.get_weights()
        active = gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta
    active = np.clip(active, 0, 6)
    if layer.scale == "up4":
        query = active.repeat(4, -3).repeat(4, -2)
    elif layer.scale == "same":
        kernel, bias = layer.query.get_weights()
        query = active @ kernel + bias
    else:
        query = np.asarray(layer.query(active))
    y = attention(layer.attention, query, active)
    if layer.gating:
        y = y * np.asarray(layer.gating.gain)
    if layer.scale == "same":
        return y + x
    return y + (query if layer.shortcut is None else np.asarray(layer.shortcut(active)))
