"""Small three-dimensional cells, and microscope images of them, with known truth.

The same `shape`, `seed` and sizes give the same bytes. Brightness is relative, about 1 inside a
structure; `optics.add_camera_noise` turns it into photons.
"""

import inspect
from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.special import expit

from gvtnets_tf.checks import check_at_least, check_choice
from gvtnets_tf.data.synthetic import optics, shapes
from gvtnets_tf.data.synthetic.optics import PSF, add_camera_noise, blur_with_psf
from gvtnets_tf.data.synthetic.shapes import evaluate_gaussian, find_nearest, smooth_field
from gvtnets_tf.images.image import Image

STRUCTURES = ("nuclei", "membranes", "bodies")
SMALLEST = (4, 16, 16)  # voxels; less would hold no cell
CELL_SIZE = (12, 24, 24)  # voxels along z, y, x: round cells, of voxels twice as long along z

# Refractive indices of the cytoplasm, and how the rest differs from it: chosen, of the order
# reviewed by Liu et al. (2016), Cell refractive index for cell biology and disease diagnosis,
# Lab Chip 16, 634-644, https://doi.org/10.1039/C5LC01445J. The nucleus is below the cytoplasm,
# as measured by quantitative phase: https://pmc.ncbi.nlm.nih.gov/articles/PMC5647217.
CYTOPLASM = 1.37
CONTRAST = {"nuclei": -0.01, "nucleoli": 0.016, "membranes": 0.005, "bodies": 0.03}
GRAIN = 0.0015  # standard deviation within the cytoplasm


def simulate_cells(
    shape: Sequence[int], seed: int, cell_size: Sequence[float] = CELL_SIZE, *,
    nucleus: float = 0.36, membrane: float = 1.0, body: float = 1.1, bodies_per_cell: float = 12,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Simulate a tissue of cells, each with its border, its nucleus and its small bodies.

    Space is divided among jittered lattice points (a Voronoi diagram in coordinates bent by a
    smooth random field). Each cell has one ellipsoidal nucleus with two nucleoli; bodies lie in
    the cytoplasm.

    Args:
        shape: three ints, `(z, y, x)` in voxels, at least `(4, 16, 16)`.
        seed: int, at least 0.
        cell_size: three numbers. Distance between cells along z, y and x, in voxels.
        nucleus: float. Mean radius of a nucleus, as a share of `cell_size`, below 0.5.
        membrane, body: float. Standard deviations of their profiles, in voxels along x.
        bodies_per_cell: float. Number of bodies, on average.

    Returns:
        Mapping of float32 volumes of `shape`: `"nuclei"`, `"membranes"` and `"bodies"` in
        relative brightness, `"index"` the refractive index of all of it.

    Examples:
        >>> simulate_cells((8, 32, 32), seed=0)["nuclei"].shape
        (8, 32, 32)
    """
    shape = check_shape(shape)
    size = np.array(optics.check_three("cell_size", cell_size, 4), np.float32)
    if not 0 < nucleus < 0.5:
        raise ValueError(f"`nucleus` must be between 0 and 0.5. Received: nucleus={nucleus!r}.")
    optics.check_positive("membrane", membrane)
    optics.check_positive("body", body)
    check_at_least("bodies_per_cell", bodies_per_cell, 0)
    rng = optics.make_generator(seed, "cells")
    points = shapes.bend_grid(shape, size, rng)
    seeds = shapes.jitter_lattice(shape / size, rng)
    owner, border = find_nearest(points, seeds)
    scale = size[2]  # voxels along x per cell

    distance, nucleoli = _place_nuclei(points, seeds, owner, nucleus, rng)
    inside = np.clip(distance * scale + 0.5, 0, 1) * np.clip(border * scale - 1.5, 0, 1)
    nucleoli *= inside
    chromatin = 1 + 0.25 * smooth_field(shape, size / 16, rng)
    borders = evaluate_gaussian(border * scale / membrane)
    room = (distance * scale < -1.5) & (border * scale > 2.5)
    count = rng.poisson(bodies_per_cell * room.size / size.prod())
    bodies = shapes.paint_spots(room, count, body * size / scale, rng)
    volumes = {
        "nuclei": inside * np.maximum(chromatin, 0.2) * (1 - 0.7 * nucleoli),
        "membranes": borders * np.maximum(1 + 0.15 * smooth_field(shape, size / 3, rng), 0),
        "bodies": bodies,
    }
    parts = {"nuclei": inside, "nucleoli": nucleoli, "membranes": borders, "bodies": bodies}
    grain = GRAIN * smooth_field(shape, size / 16, rng) * (1 - 0.7 * inside)
    volumes["index"] = CYTOPLASM + grain + sum(CONTRAST[k] * v for k, v in parts.items())
    return {name: volume.astype(np.float32) for name, volume in volumes.items()}


def simulate_surface(
    shape: Sequence[int], seed: int, cell_size: float = 24, *, membrane: float = 1.0,
    thickness: float = 1.0, background: float = 0.2, sigma: Sequence[float] = PSF,
    photons: float | None = None, read_noise: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Simulate a stack of a curved sheet of cells, and the pattern on the sheet.

    The sheet is a smooth random height map between a quarter and three quarters of the
    depth. Below it (towards larger z) lies tissue with a signal of its own, which a maximum
    projection would mix into the pattern.

    Args:
        shape, seed: as in `simulate_cells`.
        cell_size: float. Distance between cells of the sheet, in voxels.
        membrane: float. Standard deviation of a cell border's profile, in voxels.
        thickness: float. Standard deviation of the sheet's profile along z, in voxels.
        background: float. Mean brightness of the tissue below, where a border has about 1.
        sigma: as in `blur_with_psf`.
        photons, read_noise: as in `add_camera_noise`; `photons=None` for no noise.

    Returns:
        float32 stack `(z, y, x)`, and float32 projection `(y, x)`: the pattern on the sheet,
        seen from above without blur, noise and tissue.

    Examples:
        >>> stack, projection = simulate_surface((8, 32, 32), seed=0)
        >>> stack.shape, projection.shape
        ((8, 32, 32), (32, 32))
    """
    shape = check_shape(shape)
    check_at_least("cell_size", cell_size, 4)
    check_at_least("background", background, 0)
    optics.check_positive("membrane", membrane)
    optics.check_positive("thickness", thickness)
    rng = optics.make_generator(seed, "surface")
    flat, cell = shape[1:], np.full(2, cell_size, np.float32)
    height = (shape[0] - 1) * (0.5 + 0.25 * np.tanh(smooth_field(flat, np.array(flat) / 5, rng)))
    seeds = shapes.jitter_lattice(flat / cell, rng)
    owner, border = find_nearest(shapes.bend_grid(flat, cell, rng), seeds)
    inside = rng.uniform(0.02, 0.15, len(seeds))[owner]
    borders = np.maximum(1 + 0.2 * smooth_field(flat, cell / 3, rng), 0)
    projection = np.maximum(borders * evaluate_gaussian(border * cell_size / membrane), inside)

    below = np.arange(shape[0])[:, None, None] - height  # voxels
    texture = smooth_field(shape, np.array([0.1, 0.2, 0.2]) * cell_size, rng)
    tissue = np.maximum(1 + 0.5 * texture, 0)
    tissue *= background * expit(below / thickness - 3)
    stack = blur_with_psf(projection * evaluate_gaussian(below / thickness) + tissue, sigma)
    if photons is not None:
        stack = add_camera_noise(stack, photons, read_noise, seed)
    return stack, projection.astype(np.float32)


def simulate_pair(task: str, shape: Sequence[int], seed: int, **options) -> tuple[Image, Image]:
    """Simulate the input and the target of a task.

    Args:
        task: `"denoising"`: a noisy picture of fluorescent structures, and the same without
            noise. `"label_free"`: transmitted light, and the fluorescence of one structure.
            `"projection"`: the noisy stack of a curved sheet, and the pattern on it.
        shape, seed: as in `simulate_cells`.
        structures: of denoising, sequence of names out of `STRUCTURES`, shown together.
        structure: of label_free, one of `STRUCTURES`.
        photons: float. Photons per voxel at brightness 1; 20, and 2000 for transmitted light.
        read_noise: float. Standard deviation of the read noise, in photons; 1.5.
        sigma: as in `blur_with_psf`.
        cell_size, membrane, thickness, background: of projection, as in `simulate_surface`.

    Returns:
        Two `Image`s with voxel sizes, float32: the input `ZYX`, and the target `ZYX`, or
        `YX` for a projection.

    Raises:
        ValueError: for an unknown task, option or structure, or an impossible value.

    Examples:
        >>> light, nuclei = simulate_pair("label_free", (8, 32, 32), seed=0, structure="nuclei")
        >>> light.axes, nuclei.shape, nuclei.voxel_size["Z"]
        ('ZYX', (8, 32, 32), 0.58)
    """
    make = TASKS[check_choice("task", task, list(TASKS))]
    known = [name for name in inspect.signature(make).parameters if name not in ("shape", "seed")]
    for name in options:
        check_choice(f"option of {task}", name, known)
    sizes = list(zip("ZYX", optics.VOXEL_SIZE))
    return tuple(
        Image(v, "ZYX"[-v.ndim :], dict(sizes[-v.ndim :]), name=f"{task}_{seed}")
        for v in make(shape, seed, **options)
    )


def _denoising(shape, seed, *, structures=STRUCTURES, photons=20.0, read_noise=1.5, sigma=PSF):
    if isinstance(structures, str) or not len(structures):
        raise ValueError(
            f"`structures` must be a list of one or more of {STRUCTURES}. "
            f"Received: structures={structures!r}."
        )
    names = [check_choice("structure", name, STRUCTURES) for name in structures]
    volumes = simulate_cells(shape, seed)
    clean = blur_with_psf(sum(volumes[name] for name in names), sigma)
    return add_camera_noise(clean, photons, read_noise, seed), clean


def _label_free(shape, seed, *, structure="nuclei", photons=2000.0, read_noise=1.5, sigma=PSF):
    check_choice("structure", structure, STRUCTURES)
    volumes = simulate_cells(shape, seed)
    camera = {"photons": photons, "read_noise": read_noise, "seed": seed}
    light = optics.simulate_transmitted_light(volumes["index"], **camera)
    return light, blur_with_psf(volumes[structure], sigma)


TASKS = {
    "denoising": _denoising,
    "label_free": _label_free,
    "projection": partial(simulate_surface, photons=20.0, read_noise=1.5),
}


def check_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return `shape` as a tuple of three ints that holds a cell, else raise `ValueError`."""
    shape = optics.check_three("shape", shape, SMALLEST)
    if any(n != int(n) for n in shape):
        raise ValueError(f"`shape` must be whole numbers. Received: shape={shape!r}.")
    return tuple(map(int, shape))


def _place_nuclei(points, seeds, owner, radius, rng):
    """Return the depth of each point in its nucleus, negative outside, and the nucleoli."""
    count = len(seeds)
    radii = radius * rng.uniform(0.8, 1.2, (count, 3))
    angle = rng.uniform(0, np.pi, count)
    centers = seeds + rng.uniform(-0.08, 0.08, seeds.shape)
    z, y, x = np.moveaxis(points - centers[owner], -1, 0)
    cos, sin = np.cos(angle)[owner], np.sin(angle)[owner]
    local = np.stack([z, cos * y - sin * x, sin * y + cos * x], -1) / radii[owner]
    nucleoli = np.zeros(owner.shape)
    for _ in range(2):
        place = rng.uniform(-0.45, 0.45, (count, 3))
        nucleoli += evaluate_gaussian(np.linalg.norm(local - place[owner], axis=-1) / 0.18)
    return (1 - np.linalg.norm(local, axis=-1)) * radius, np.minimum(nucleoli, 1)
