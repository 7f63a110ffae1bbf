"""Names of the published weights, and their names in a model folder.

Read off the released training graphs of divelab/GVTNets @ 66e1007 (TensorFlow 1), and off
the state of AllenCellModeling/pytorch_fnet, class fnet_nn_3d_params.Net(depth=4).
"""

import re

import numpy as np

# Micrometers of the images that the published networks were trained on, where resampled.
VOXEL_SIZE = {"label_free": {"Y": 0.29, "X": 0.29}, "fnet": {"Z": 0.3, "Y": 0.3, "X": 0.3}}
LICENSES = {
    "tf1": "GPL-3.0 (released checkpoints of divelab/GVTNets)",
    "fnet": "Allen Institute terms, non-commercial use only (pytorch_fnet and its models)",
}
# Applied in turn, from the front of a name to its end.
RULES = (
    (r"^first_convolution/", "stem/"),
    (r"^encoding_block_(\d+)/downsampling/convolution/", lambda m: f"downs.{int(m[1]) - 2}/"),
    (r"^encoding_block_(\d+)/downsampling/", lambda m: f"downs.{int(m[1]) - 2}."),
    (r"^encoding_block_(\d+)/res_(\d+)/", lambda m: f"encoder.{int(m[1]) - 1}.{m[2]}."),
    (r"^bottom_block/block_(\d+)/", r"bottoms.\1."),
    (r"/upsampling/transposed_convolution/", "/upsampling/convolution/"),
    (r"^decoding_block_(\d+)/upsampling/convolution/", lambda m: f"ups.{int(m[1]) - 1}/"),
    (r"^decoding_block_(\d+)/upsampling/", lambda m: f"ups.{int(m[1]) - 1}."),
    (r"^decoding_block_(\d+)/res_(\d+)/", lambda m: f"decoder.{int(m[1]) - 1}.{m[2]}."),
    (r"^batch_norm_output/", "head.normalize/"),
    (r"^(output_convolution|out_conv)/", "head.location_conv/"),
    (r"^out_sigma_conv/", "head.scale_conv/"),
    (r"^projection/Conv_down_(\d+)/", r"project.downs.\1/"),
    (r"^projection/Bottom_0/", "project.bottom."),
    (r"^projection/Conv_bottom_0/", "project.bottom_conv/"),
    (r"^projection/Upsample_(\d+)/", r"project.ups.\1."),
    (r"^projection/Conv_up_(\d+)/", r"project.up_convs.\1/"),
    (r"^projection/Conv_final/", "project.weigh/"),
    (r"attention/q_transform/", "query/"),
    (r"attention/k_transform/", "attention.key/"),
    (r"attention/v_transform/", "attention.value/"),
    (r"attention/out_transform/", "attention.result/"),
    (r"batch_norm(_\d)?/", r"normalize\1/"),
    (r"convolution_(\d)/", r"conv_\1/"),
    (r"projection_shortcut/", "shortcut/"),
)


def own_name(name: str, task: str) -> str:
    """Return our name of a published variable, e.g. `stem/bias` of `first_convolution/bias`."""
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)
    return f"restore.{name}" if task == "projection" and not name.startswith("project.") else name


# Entries of a TensorFlow-1 checkpoint that are no weights: counters and the optimizer's memory.
NO_WEIGHTS = re.compile(r"^global_step$|(^|/)beta[12]_power(_\d+)?$|/Adam(_1)?$")


def is_weight(name: str) -> bool:
    """Return `True` for a variable of a TensorFlow-1 checkpoint that is a weight."""
    return not NO_WEIGHTS.search(name)


# The parts of one level of pytorch_fnet's recursive network, and their names here.
FNET_PARTS = {
    "sub_2conv_more.conv1": "encoder.{}.0.conv", "sub_2conv_more.bn1": "encoder.{}.0.normalize",
    "sub_2conv_more.conv2": "encoder.{}.1.conv", "sub_2conv_more.bn2": "encoder.{}.1.normalize",
    "conv_down": "downs.{}.conv", "bn0": "downs.{}.normalize",
    "convt": "ups.{}.conv", "bn1": "ups.{}.normalize",
    "sub_2conv_less.conv1": "decoder.{}.0.conv", "sub_2conv_less.bn1": "decoder.{}.0.normalize",
    "sub_2conv_less.conv2": "decoder.{}.1.conv", "sub_2conv_less.bn2": "decoder.{}.1.normalize",
}  # fmt: skip
FNET_ROLES = {
    "conv": {"weight": "kernel", "bias": "bias"},
    "normalize": {
        "weight": "gamma", "bias": "beta",
        "running_mean": "moving_mean", "running_var": "moving_variance",
    },
}  # fmt: skip
FNET_OUTPUT = {f"conv_out.{k}": f"head.location_conv/{v}" for k, v in FNET_ROLES["conv"].items()}


def fnet_name(name: str) -> str:
    """Return our name of an entry of a state, else `name` itself.

    Each `sub_u` is a level down: `net_recurse.sub_u.convt.weight` is `ups.1.conv/kernel`.
    """
    match = re.fullmatch(r"net_recurse\.((?:sub_u\.)*)(.+)\.(\w+)", name)
    if match is None:
        return FNET_OUTPUT.get(name, name)
    levels, part, leaf = match.groups()
    own = FNET_PARTS.get(part, "").format(levels.count("sub_u"))
    role = FNET_ROLES.get(own.rsplit(".", 1)[-1], {}).get(leaf)
    return f"{own}/{role}" if role else name


def torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape in torch, `(b, a, *kernel)` for `(*kernel, a, b)` here.

    This holds for convolutions, (in, out) here, and transposed ones, (out, in) here.
    """
    return (shape[-1], shape[-2], *shape[:-2]) if len(shape) > 1 else tuple(shape)


def from_torch(array: np.ndarray) -> np.ndarray:
    """Bring a weight of torch into the order of axes of Keras; nothing is flipped."""
    return np.moveaxis(array, (0, 1), (-1, -2)) if array.ndim > 1 else array
