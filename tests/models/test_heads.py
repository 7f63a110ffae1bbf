import numpy as np
import pytest
from common_checks import check_arguments, check_layer, set_weights

from gvtnets_tf.models.heads import Head, LabelHead

GVT = {"kernel": 1, "bias": False, "norm": "batch", "input_residual": True, "scale": True}
FNET = {"preactivation": False, "scale": True, "scale_bias": True, "initial_stddev": 0.02}
GRIDS = {2: (4, 6), 3: (2, 4, 6)}


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("config, weights", [({}, 2), (GVT, 6), (FNET, 4)])
def test_head_common_checks(noise, rank, config, weights):
    make = lambda **kwargs: Head(rank, 3, **config, **kwargs)
    check_layer(make, noise(2, *GRIDS[rank], 4), noise(2, *GRIDS[rank], 1), weights=weights)


@pytest.mark.parametrize("classes", [None, 5])
def test_label_head_common_checks(noise, classes):
    make = lambda **kwargs: LabelHead(3, classes, **kwargs)
    check_layer(make, noise(2, 4, 6, 4), noise(2, 4, 6, 1), weights=2)


def test_heads_keep_every_argument():
    check_arguments(Head, GVT, FNET)
    check_arguments(LabelHead, {"classes": 5})


def test_a_head_is_convolution_and_scale_and_input(noise):
    x, images = noise(1, 4, 4, 6), noise(1, 4, 4, 1)
    head = Head(2, 2, kernel=1, input_residual=True, scale=True, scale_bias=True)
    head.build(x.shape, images.shape)
    set_weights(head)
    kernel, bias, scale_kernel, scale_bias = (
        w[0, 0] if w.ndim > 1 else w for w in head.get_weights()
    )
    active = np.clip(x, 0, 6)
    location = active @ kernel + bias + images
    scale = np.log1p(np.exp(active @ scale_kernel + scale_bias)) + 1e-3
    np.testing.assert_allclose(
        head(x, images), np.concatenate([location, scale], -1), rtol=1e-4, atol=1e-5
    )
    plain = Head(2, 2, kernel=1, preactivation=False)
    plain.build(x.shape, images.shape)
    plain.set_weights([head.location_conv.kernel, head.location_conv.bias])
    np.testing.assert_allclose(plain(x, images), x @ kernel + bias, rtol=1e-4, atol=1e-5)


def test_an_input_that_cannot_be_added_is_refused(noise):
    with pytest.raises(ValueError, match=r"`input_residual` .* 1 or 3 channels. Received: 2."):
        Head(2, 3, input_residual=True)(noise(1, 4, 4, 6), noise(1, 4, 4, 2))


def test_kernels_of_one_head_start_apart():
    head = Head(2, 4, kernel=1, scale=True, initial_stddev=0.02)
    head.build((None, 4, 4, 64), (None, 4, 4, 1))
    location, scale = (np.asarray(c.kernel) for c in (head.location_conv, head.scale_conv))
    assert location.std() == pytest.approx(0.02, rel=0.2)
    assert not np.array_equal(location, scale)
