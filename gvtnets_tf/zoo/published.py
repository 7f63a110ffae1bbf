"""Names of the published TensorFlow-1 variables, and what they are called here.

Read off the released training graphs of divelab/GVTNets @ 66e1007.
"""

import re

# Applied in turn, from the front of a name to its end.
RULES = (
    (r"^first_convolution/", "stem/"),
    (r"^encoding_block_(\d+)/downsampling/convolution/", lambda m: f"downs.{int(m[1]) - 2}/"),
    (r"^encoding_block_(\d+)/downsampling/", lambda m: f"downs.{int(m[1]) - 2}."),
    (r"^encoding_block_(\d+)/res_(\d+)/", lambda m: f"encoder.{int(m[1]) - 1}.{m[2]}."),
    (r"^bottom_block/block_(\d+)/", r"bottoms.\1."),
    (
        r"^decoding_block_(\d+)/upsampling/transposed_convolution/",
        lambda m: f"ups.{int(m[1]) - 1}/",
    ),
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


def own_name(name, task):
    """Return what a published variable is called in a model folder.

    Args:
        name: str. Name in the checkpoint, e.g. `"bottom_block/block_0/attention/q_transform/bias"`.
        task: `"label_free"`, `"denoising"` or `"projection"`.

    Returns:
        str, e.g. `"bottoms.0.query/bias"`.
    """
    own = name
    for pattern, replacement in RULES:
        own = re.sub(pattern, replacement, own)
    return f"restore.{own}" if task == "projection" and not own.startswith("project.") else own
