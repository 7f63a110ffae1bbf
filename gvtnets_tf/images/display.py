"""Channels in colors: images to look at, not to measure."""

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from gvtnets_tf.atomic_files import MARK, atomic_write
from gvtnets_tf.images.image import Image

CONTRAST = (0.5, 99.8)  # percentiles shown as black and as the full color
GOLDEN = 0.618034  # of the circle of hues: each color is far from all before it
WHITE = "#ffffff"
LINE, MARGIN = 14, 4  # height of a line of the legend, and space around it, in pixels
DURATION = 200  # of a frame of a movie, in milliseconds


def choose_colors(count: int) -> tuple[str, ...]:
    """Choose display colors `"#rrggbb"`, one per channel; a single channel is white."""
    if count == 1:
        return (WHITE,)
    hues = (colorsys.hsv_to_rgb((1 / 3 + i * GOLDEN) % 1, 1, 1) for i in range(count))
    return tuple("#" + "".join(f"{round(255 * part):02x}" for part in hue) for hue in hues)


def contrast_limits(pixels: ArrayLike) -> tuple[float, float]:
    """Measure the values `low < high` displayed as black and white: percentiles 0.5 and 99.8.

    Where these are equal, as in an image of few bright voxels: the smallest and largest value.
    """
    low, high = np.nanpercentile(pixels, CONTRAST)
    if not high > low:
        low, high = np.nanmin(pixels), np.nanmax(pixels)
    return float(low), float(max(high, low + 1e-6))


def blend_channels(planes: np.ndarray, limits: ArrayLike, colors: Sequence[str]) -> np.ndarray:
    """Add channels `(channels, y, x)` to one RGB image `(y, x, 3)` of uint8, each in its color.

    `limits` is `(channels, 2)`; see `contrast_limits`.
    """
    total = np.zeros((*planes.shape[1:], 3))
    for plane, (low, high), color in zip(planes, limits, colors, strict=True):
        brightness = np.clip((plane - low) / (high - low), 0, 1)
        total += brightness[..., None] * np.frombuffer(bytes.fromhex(color[1:]), np.uint8)
    return np.minimum(total + 0.5, 255).astype(np.uint8)


def write_merged_figure(
    path: str | Path, image: Image, colors: Sequence[str], force: bool = False
) -> None:
    """Write a PNG figure of all channels, with a legend of channel names in their colors.

    Each channel is the maximum projection along Z, of the central frame of a time series, between
    its `contrast_limits`. `colors` are `"#rrggbb"`, one per channel.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont
    from PIL.PngImagePlugin import PngInfo

    stack = image.numpy("TCZYX")
    planes = stack[len(stack) // 2].max(1)
    pixels = blend_channels(planes, [contrast_limits(plane) for plane in planes], colors)
    height, width = pixels.shape[:2]
    below = len(image.channel_names) * LINE + 2 * MARGIN
    longest = max(map(ImageFont.load_default().getlength, image.channel_names), default=0)
    figure = Picture.new("RGB", (max(width, round(longest) + 2 * MARGIN), height + below))
    figure.paste(Picture.fromarray(pixels))
    pen = ImageDraw.Draw(figure)
    for line, (name, color) in enumerate(zip(image.channel_names, colors)):
        pen.text((MARGIN, height + MARGIN + line * LINE), name, fill=color)
    note = PngInfo()
    note.add_text("Software", MARK)
    with atomic_write(path, force) as beside:
        figure.save(beside, format="PNG", pnginfo=note)


def write_movie(
    path: str | Path,
    image: Image,
    plane: int | None = None,
    colors: Sequence[str] | None = None,
    force: bool = False,
) -> None:
    """Write one plane of a time series as a looping GIF, with one contrast for all frames.

    `plane` counts along Z, negative from the end; `None` is the central one. `colors` are as of
    `write_merged_figure`; `None` calls `choose_colors`.
    """
    from PIL import Image as Picture

    check_movie(image.sizes, plane, image.name)
    stack = image.numpy("CTZYX")
    planes = stack[:, :, stack.shape[2] // 2 if plane is None else plane]
    limits = [contrast_limits(plane) for plane in planes]
    colors = colors or choose_colors(len(planes))
    frames = (blend_channels(planes[:, t], limits, colors) for t in range(planes.shape[1]))
    if tuple(colors) == (WHITE,):
        frames = (frame[..., 0] for frame in frames)  # gray keeps all of its 256 levels
    first, *others = map(Picture.fromarray, frames)
    with atomic_write(path, force) as beside:
        options = {"duration": DURATION, "loop": 0, "comment": MARK}
        first.save(beside, "GIF", save_all=True, append_images=others, **options)


def check_movie(sizes: Mapping[str, int], plane: int | None = None, name: str = "") -> None:
    """Raise unless `write_movie` could write an image of these sizes: with T, and `plane` in Z."""
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
