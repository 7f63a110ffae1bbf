"""Small simulated wells in the layout of the in-silico labeling data, and its file names."""

import datetime

import numpy as np
from PIL import Image
from scipy import ndimage

from gvtnets_tf.data.in_silico_labeling.file_names import FileName

DAPI, MAP2, NFH = "DAPI_CONFOCAL", "MAP2_CONFOCAL", "NFH_CONFOCAL"
PLANE = FileName(
    "finkbeiner", "kevan_0_8", "B", datetime.date(2015, 10, 5), "A4", 0, "PHASE_CONTRAST"
)
NAME = (
    "lab-Finkbeiner,condition-kevan_0_8,acquisition_date,year-2015,month-10,day-5,well-{well},"
    "{depth},channel,value-{channel},is_mask-false,kind,value-ORIGINAL.png"
)


def well(folder, well="A4", labels=(DAPI, MAP2), planes=3, shape=(48, 64), seed=0):
    """Write a well of 16-bit PNGs and give its folder.

    Its labels are smooth spots; each plane is a mixture of two of them and noise.
    """
    rng = np.random.default_rng(seed)
    spots = ndimage.gaussian_filter(rng.normal(size=(3, *shape)), (0, 2, 2), mode="reflect")
    spots = 3000 + 2000 * spots / spots.std()
    for i, label in enumerate(labels):
        _write(folder, well, "depth_computation,value-MAXPROJECT", label, spots[i])
    for z in range(planes):
        light = 8000 + spots[0] - z * spots[1] + 200 * rng.normal(size=shape)
        _write(folder, well, f"z_depth-{z}", "PHASE_CONTRAST", light)
    return folder


def _write(folder, well, depth, channel, pixels):
    folder.mkdir(parents=True, exist_ok=True)
    name = NAME.format(well=well, depth=depth, channel=channel)
    pixels = np.clip(np.round(pixels), 0, 65535).astype(np.uint16)
    Image.fromarray(pixels).save(folder / name)


def sample_name(name, minute=True, tile=True):
    """A name as the sample of the repository spells it."""
    depth = "depth_computation-MAXPROJECT" if name.z is None else f"z_depth-{name.z}"
    words = [
        f"lab-{name.lab.upper()},condition-{name.condition.upper()},acquisition_date",
        f"year-{name.date.year},month-{name.date.month},day-{name.date.day}",
        *["minute-0"] * minute,
        f"well-{name.well}",
        *["tile_computation-STITCHED"] * tile,
        f"{depth},channel-{name.channel},is_mask-{str(name.mask).lower()}",
        *["kind-PREDICTED"] * name.predicted,
    ]
    return ",".join(words) + ".png"


def bucket_name(name):
    """A name as the public bucket spells it."""
    max_depth = "depth_computation,value-MAXPROJECT"
    depth = max_depth if name.z is None else f"z_depth-{name.z}"
    kind = "PREDICTED" if name.predicted else "ORIGINAL"
    return (
        f"lab-{name.lab.capitalize()},condition-{name.condition},acquisition_date,"
        f"year-{name.date.year},month-{name.date.month},day-{name.date.day},well-{name.well},"
        f"{depth},channel,value-{name.channel},is_mask-{str(name.mask).lower()},"
        f"kind,value-{kind}.png"
    )
