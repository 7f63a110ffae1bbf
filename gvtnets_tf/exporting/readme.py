"""The README of an exported network: its card as a page of Markdown."""

from gvtnets_tf import __version__
from gvtnets_tf.prediction.predictor import Predictor

CITE = {
    "GVTNet": (
        "Wang, Xie & Ji (2021), Global voxel transformer networks for augmented microscopy, "
        "Nat. Mach. Intell. 3, 161-171",
        "10.1038/s42256-020-00283-x",
    ),
    "FNet": (
        "Ounkomol et al. (2018), Label-free prediction of three-dimensional fluorescence images "
        "from transmitted-light microscopy, Nat. Methods 15, 917-920",
        "10.1038/s41592-018-0111-2",
    ),
    "GlobalPixelTransformerNet": (
        "Liu, Yuan, Wang & Ji (2020), Global pixel transformers for virtual staining of "
        "microscopy images, IEEE Trans. Med. Imaging 39, 2256-2266",
        "10.1109/TMI.2020.2968504",
    ),
}
CITE["ProjectionGVTNet"] = CITE["GVTNet"]
# The normalization of an image, and the way back where it depends on the image.
RULES = {
    "percentile": (
        "percentiles {low:g} and {high:g} of each image and channel become 0 and 1",
        "multiply by the difference of the percentiles {high:g} and {low:g} of the input, and add "
        "the lower one",
    ),
    "zscore": (
        "each image and channel gets mean 0 and standard deviation 1",
        "multiply by the standard deviation of the input, and add its mean",
    ),
    "unit": (
        "the smallest and the largest value of each image and channel become -1 and 1",
        "multiply by half the difference between the largest and the smallest value of the input, "
        "and add the value in their middle",
    ),
    "fixed": ("stored values: offset {offset}, gain {gain}", ""),
    "none": ("none", ""),
}


def describe(predictor: Predictor, name: str) -> dict:
    """Describe a network in one line each: its `name`, `description`, and what to `cite`.

    `name` is what to call it, besides its class; it may be empty.
    """
    card, network = predictor.card, type(predictor.model).__name__
    return {
        "name": f"{name} ({network})" if name else f"{network} of gvtnets_tf",
        "description": f"{_join(card.output_channels)} out of {_join(card.input_channels)}, "
        f"axes {card.axes}, by {network} of gvtnets_tf.",
        "cite": [{"text": text, "doi": doi} for text, doi in filter(None, [CITE.get(network)])],
    }


def format_page(predictor: Predictor, name: str) -> str:
    """Format the page of a network that is packed with its normalization, not its denormalization.

    It is Markdown with the section "Validation" that bioimage.io asks for; see `describe`.
    """
    card, about = predictor.card, describe(predictor, name)
    rule, back = (
        text.format(**card.input_normalizer.to_dict()) for text in RULES[card.input_normalizer.kind]
    )
    units = {
        "input": f"none; for those of the input, {back}" if back else "those of the input",
        "stored": "those of the training targets, by stored values",
        "none": "none, as the network was trained",
    }
    if card.target_statistics:
        known = "multiply by {gain}, and add {offset}".format(**card.target_statistics)
        units["none"] += f"; for those of the training targets, {known}"
    rows = {
        "network": f"`{type(predictor.model).__name__}` of gvtnets_tf {__version__}",
        "input": f"{_join(card.input_channels)}, axes {card.axes}, then channels",
        "result": f"{_join(card.output_channels)}, axes {card.output_axes}, then channels",
        "sizes": ", ".join(
            f"{letter} a multiple of {d}" for letter, d in zip(card.axes, predictor.divisor)
        ),
        "voxel size": ", ".join(f"{k} {v:g} µm" for k, v in card.voxel_size.items()),
        "normalization (in the preprocessing)": rule,
        "units of results": units[card.denormalize],
        "training": ", ".join(f"{k}: {v}" for k, v in card.training.items()),
        "comes from": card.provenance,
        "license": card.license,
        "please cite": "; ".join(f"{c['text']}, doi:{c['doi']}" for c in about["cite"]),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items() if value)
    return f"""# {about["name"]}

{about["description"]}

| | |
|---|---|
{table}

The cover, the samples and the test tensors are simulated. They show that the files run, not what
the network was trained for.

## Validation

Predict images that the network has not seen, of your own microscope and with known truth, and
compare: Pearson correlation, SSIM and PSNR beside those of the input, and the images by eye.
"""


def _join(channels):
    return ", ".join(channels) or "images"
