"""Channels in colors: images to look at, not to measure."""

import colorsys

import numpy as np

from gvtnets_tf.atomic_files import atomic_write
from gvtnets_tf.images.axes import rearrange

CONTRAST = (0.5, 99.8)  # percentiles shown as black and as the full color
GOLDEN = 0.618034  # of the circle of hues: the next color is far from all before
WHITE = "#ffffff"
LINE, MARGIN = 14, 4  # pixels of a line of the legend
STEP = 200  # milliseconds that a frame of a movie is shown


def colors(count):
    """Choose display colors: `"#rrggbb"` each, white where there is one channel only."""
    if count == 1:
        return (WHITE,)
    hues = (colorsys.hsv_to_rgb((1 / 3 + i * GOLDEN) % 1, 1, 1) for i in range(count))
    return tuple("#" + "".join(f"{round(255 * part):02x}" for part in hue) for hue in hues)


def contrast_limits(pixels) -> tuple[float, float]:
    """Measure the values that are shown as black and as white: percentiles 0.5 and 99.8.

    Args:
        pixels: array of any shape, in any unit. NaN is left out.

    Returns:
        `(low, high)`, the second always above the first. Where so few voxels are bright that
        the percentiles miss them, the smallest and the largest value.

    Examples:
        >>> contrast_limits([0, 0, 0, 0, 10])
        (0.0, 9.92)
    """
    low, high = np.nanpercentile(pixels, CONTRAST)
    if not high > low:
        low, high = np.nanmin(pixels), np.nanmax(pixels)
    return float(low), float(max(high, low + 1e-6))


def blend(planes, between, shown):
    """Add up channels, each in its color.

    Args:
        planes: array `(channels, y, x)`.
        between: array `(channels, 2)`; see `contrast_limits`.
        shown: sequence of `"#rrggbb"`, one per channel.

    Returns:
        uint8 array `(y, x, 3)`.
    """
    total = np.zeros((*planes.shape[1:], 3))
    for plane, (low, high), color in zip(planes, between, shown, strict=True):
        share = np.clip((plane - low) / (high - low), 0, 1)
        total += share[..., None] * np.frombuffer(bytes.fromhex(color[1:]), np.uint8)
    return np.minimum(total + 0.5, 255).astype(np.uint8)


def merged(path, image, shown, force=False):
    """Write one figure (PNG) of all channels, with their names below in their colors.

    Each channel is the maximum over Z between its percentiles 0.5 and 99.8. Of a time
    series the central frame is shown.

    Args:
        path: file to make.
        image: `Image` with channel names.
        shown: sequence of `"#rrggbb"`, one per channel.
        force: bool. Whether an existing file is replaced.

    Raises:
        FileExistsError: if `path` exists and `force` is `False`.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    stack = rearrange(image.array, image.axes, "TCZYX")
    planes = stack[len(stack) // 2].max(1)
    pixels = blend(planes, [contrast_limits(plane) for plane in planes], shown)
    height, width = pixels.shape[:2]
    below = len(image.channel_names) * LINE + 2 * MARGIN
    longest = max(map(ImageFont.load_default().getlength, image.channel_names), default=0)
    figure = Picture.new("RGB", (max(width, round(longest) + 2 * MARGIN), height + below))
    figure.paste(Picture.fromarray(pixels))
    pen = ImageDraw.Draw(figure)
    for line, (name, color) in enumerate(zip(image.channel_names, shown)):
        pen.text((MARGIN, height + MARGIN + line * LINE), name, fill=color)
    with atomic_write(path, force) as beside:
        figure.save(beside, format="PNG")


def movie(path, image, plane=None, shown=None, force=False):
    """Write one plane of a time series as a GIF that repeats.

    The contrast of each channel is the same in all frames: percentiles 0.5 and 99.8 of
    the plane over all of them.

    Args:
        path: file to make.
        image: `Image` with axis T.
        plane: int. Index along Z, negative from the end; the central one by default.
        shown: sequence of `"#rrggbb"`, one per channel; `colors` by default.
        force: bool. Whether an existing file is replaced.

    Raises:
        FileExistsError: if `path` exists and `force` is `False`.
        ValueError: as `check_movie`.
    """
    from PIL import Image as Picture

    check_movie(image.sizes, plane, image.name)
    stack = rearrange(image.array, image.axes, "CTZYX")
    planes = stack[:, :, stack.shape[2] // 2 if plane is None else plane]
    between = [contrast_limits(plane) for plane in planes]
    shown = shown or colors(len(planes))
    frames = (blend(planes[:, t], between, shown) for t in range(planes.shape[1]))
    if tuple(shown) == (WHITE,):
        frames = (frame[..., 0] for frame in frames)  # gray keeps all of its 256 levels
    first, *others = map(Picture.fromarray, frames)
    with atomic_write(path, force) as beside:
        first.save(beside, format="GIF", save_all=True, append_images=others, duration=STEP, loop=0)


def check_movie(sizes, plane=None, name=""):
    """Refuse what cannot be shown as a movie, before anything is computed.

    Args:
        sizes: mapping from axis letter to length.
        plane: int or `None`. Index along Z.
        name: str. What to call the image.

    Raises:
        ValueError: if there is no axis T, or no such plane.
    """
    name, count = name or "the image", sizes.get("Z", 1)
    if "T" not in sizes:
        raise ValueError(
            f"--gif (`gif`) shows a time series, and {name} has no axis T: name its axes with "
            f"--axes, or leave it out. Received: axes {''.join(sizes)}."
        )
    if plane is not None and not -count <= plane < count:
        raise ValueError(
            f"{name} has no plane {plane} to show: --gif-plane (`gif_plane`) counts its {count} "
            f"planes along Z from 0."
        )
