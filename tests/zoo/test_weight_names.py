"""Every published variable has one place in a network here, and every place is filled."""

import json

import pytest

from gvtnets_tf.models.base import named_weights
from gvtnets_tf.models.presets import preset
from gvtnets_tf.zoo.weight_names import own_name

SKIPPED = ("global_step", "num_batches_tracked")


@pytest.mark.parametrize(
    "task, published, own",
    [
        ("denoising", "first_convolution/kernel", "stem/kernel"),
        ("denoising", "bottom_block/block_0/attention/q_transform/bias", "bottoms.0.query/bias"),
        (
            "label_free",
            "bottom_block/block_0/attention/k_transform/kernel",
            "bottoms.0.attention.key/kernel",
        ),
        ("denoising", "encoding_block_2/downsampling/convolution/kernel", "downs.0/kernel"),
        ("denoising", "out_sigma_conv/kernel", "head.scale_conv/kernel"),
        ("projection", "first_convolution/kernel", "restore.stem/kernel"),
        ("projection", "projection/Conv_down_1/bias", "project.downs.1/bias"),
        ("projection", "projection/Conv_final/kernel", "project.weigh/kernel"),
    ],
)
def test_roles_are_translated(task, published, own):
    assert own_name(published, task) == own


@pytest.mark.parametrize("task", ["label_free", "denoising", "projection"])
def test_names_are_a_bijection_and_shapes_agree(task, parity):
    listed = json.loads((parity / "published_checkpoints.json").read_text())["variables"][task]
    published = {name: shape for name, shape in dict(listed).items() if name not in SKIPPED}
    model = preset(task)
    model.build((None,) * 4 + (1,))
    ours = {name: tuple(w.shape) for name, w in named_weights(model).items()}
    translated = {own_name(name, task): shape for name, shape in published.items()}
    assert len(translated) == len(published)
    assert translated.keys() == ours.keys()
    for name, shape in translated.items():
        # A dense layer here is a 1x1 convolution there.
        assert [n for n in shape if n != 1] == [n for n in ours[name] if n != 1], name
