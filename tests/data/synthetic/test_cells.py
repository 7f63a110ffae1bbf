"""Tests of `gvtnets_tf.data.synthetic.cells`."""

import numpy as np
import pytest
from scipy import ndimage

from gvtnets_tf.data.synthetic.cells import (
    STRUCTURES,
    simulate_cells,
    simulate_pair,
    simulate_surface,
)
from gvtnets_tf.data.synthetic.optics import VOXEL_SIZE, blur_with_psf, simulate_transmitted_light

PATCH = (16, 64, 64)


def r(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


@pytest.mark.parametrize("shape", [PATCH, (8, 32, 40), (5, 17, 33), (4, 16, 16)])
def test_cells_fill_any_shape_with_finite_float32(shape):
    volumes = simulate_cells(shape, 0)
    assert set(volumes) == {*STRUCTURES, "index"}
    for volume in volumes.values():
        assert volume.shape == shape
        assert volume.dtype == np.float32
        assert np.isfinite(volume).all()
        assert volume.min() >= 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_patch_holds_a_few_cells_of_sensible_brightness(seed):
    volumes = simulate_cells(PATCH, seed)
    # 16 x 64 x 64 voxels over cells of 12 x 24 x 24 are 9.5 cells, more where some are cut.
    count = ndimage.label(volumes["nuclei"] > 0.3)[1]
    assert 5 <= count <= 25
    assert 0.05 < (volumes["nuclei"] > 0.3).mean() < 0.35
    assert 0.8 < volumes["nuclei"][volumes["nuclei"] > 0.3].mean() < 1.2
    assert 0.1 < (volumes["membranes"] > 0.5).mean() < 0.4
    assert 0.002 < volumes["bodies"].mean() < 0.05
    assert 1.35 < volumes["index"].min() < volumes["index"].max() < 1.42


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_nucleus_lies_within_the_closed_border_of_one_cell(seed):
    volumes = simulate_cells((24, 72, 72), seed)
    cell, _ = ndimage.label(volumes["membranes"] < 0.3)
    nucleus, count = ndimage.label(volumes["nuclei"] > 0.3)
    owners = [np.unique(cell[nucleus == i]) for i in range(1, count + 1)]
    assert all(len(set(owner) - {0}) == 1 for owner in owners)
    # Closed: no cell holds a large share of the volume, as it would if borders had holes.
    assert np.bincount(cell.ravel())[1:].max() < 4 * 12 * 24 * 24


def test_bodies_lie_in_the_cytoplasm():
    volumes = simulate_cells((24, 72, 72), 3)
    bright = volumes["bodies"] > 0.45
    assert bright.sum() > 50
    assert volumes["nuclei"][bright].mean() < 0.1 * volumes["nuclei"].mean()
    assert volumes["membranes"][bright].mean() < 0.4 * volumes["membranes"].mean()


def test_sizes_are_arguments():
    volumes = {size: simulate_cells(PATCH, 0, (size / 2, size, size)) for size in (16, 32)}
    small, large = (ndimage.label(volumes[size]["nuclei"] > 0.3)[1] for size in (16, 32))
    assert small > 2 * large
    for name, value, structure in [
        ("nucleus", 0.25, "nuclei"),
        ("membrane", 0.6, "membranes"),
        ("body", 0.8, "bodies"),
        ("bodies_per_cell", 4, "bodies"),
    ]:
        less, default = (
            simulate_cells(PATCH, 0, **o)[structure].mean() for o in ({name: value}, {})
        )
        assert 0 < less < 0.8 * default


@pytest.mark.parametrize("task", ["denoising", "label_free", "projection"])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_image(task):
    first, again, other = (simulate_pair(task, (8, 32, 40), seed) for seed in (7, 7, 8))
    for a, b, c in zip(first, again, other):
        assert a.array.tobytes() == b.array.tobytes()
        assert abs(r(a.array, c.array)) < 0.7


def per_voxel(light, target):
    """Best r of a polynomial of degree 3 and of 64 binned means, fitted to the test image."""
    light, target = light.ravel().astype(float) - 1, target.ravel()
    edges = np.quantile(light, np.linspace(0, 1, 65)[1:-1])
    bins = np.digitize(light, edges)
    means = np.bincount(bins, target) / np.bincount(bins)
    polynomial = np.polyval(np.polyfit(light, target, 3), light)
    return max(abs(r(polynomial, target)), abs(r(means[bins], target)))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_one_voxel_of_transmitted_light_says_little_of_any_structure(structure, seed):
    volumes = simulate_cells(PATCH, seed)
    light = simulate_transmitted_light(volumes["index"])
    for target in (volumes[structure], blur_with_psf(volumes[structure])):
        assert abs(r(light, target)) < 0.5
        assert per_voxel(light, target) < 0.5


def neighbourhood(light):
    """Gaussian derivatives and local contrast at three scales; `(voxels, features)`."""
    orders = [(z, y, x) for z in range(3) for y, x in ((0, 0), (2, 0), (0, 2))]
    fine = [ndimage.gaussian_filter(light - 1, (0.5, 1, 1), order) for order in orders[::3]]
    features = [np.ones_like(light)]
    for s in (1, 2, 4):
        scale = (s / 2, s, s)
        features += [ndimage.gaussian_filter(light - 1, scale, order) for order in orders]
        features += [np.sqrt(ndimage.gaussian_filter(f**2, scale)) for f in fine]
    features = np.stack([f.ravel() for f in features], 1)
    return features / features.std(0).clip(1e-6)


GAINS = {"nuclei": 0.35, "membranes": 0.25, "bodies": 0.1}


@pytest.mark.parametrize("structure, gain", GAINS.items())
def test_the_neighbourhood_in_transmitted_light_says_much_more(structure, gain):
    pairs = [
        simulate_pair("label_free", (16, 96, 96), seed, structure=structure) for seed in range(4)
    ]
    *train, (light, target) = [(light.array, target.array) for light, target in pairs]
    # Every seventh voxel is enough to fit 37 weights.
    x = np.concatenate([neighbourhood(image)[::7] for image, _ in train])
    y = np.concatenate([image.ravel()[::7] for _, image in train])
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
    seen = r(neighbourhood(light) @ weights, target)  # on a specimen the fit has not seen
    assert seen > per_voxel(light, target) + gain


def test_denoising_adds_the_stated_noise_to_the_clean_sum():
    noisy, clean = (
        image.array for image in simulate_pair("denoising", PATCH, 4, photons=30, read_noise=2)
    )
    volumes = simulate_cells(PATCH, 4)
    np.testing.assert_allclose(clean, blur_with_psf(sum(volumes[k] for k in STRUCTURES)), rtol=1e-5)
    noise = noisy - clean
    assert abs(noise.mean()) < 0.005
    assert noise.var() == pytest.approx(clean.mean() / 30 + (2 / 30) ** 2, rel=0.05)
    one = simulate_pair("denoising", PATCH, 4, structures=["bodies"], sigma=(0, 0, 0))[1]
    np.testing.assert_array_equal(one.array, volumes["bodies"])


def test_the_target_of_label_free_is_the_structure_and_its_input_the_light():
    light, target = simulate_pair("label_free", PATCH, 4, structure="membranes", photons=None)
    volumes = simulate_cells(PATCH, 4)
    np.testing.assert_array_equal(light.array, simulate_transmitted_light(volumes["index"]))
    np.testing.assert_array_equal(target.array, blur_with_psf(volumes["membranes"]))
    assert light.array.mean() == pytest.approx(1, abs=0.02)
    noisy = simulate_pair("label_free", PATCH, 4, photons=400, read_noise=0)[0].array
    assert (noisy - light.array).std() == pytest.approx(1 / 20, rel=0.05)


def test_pairs_know_their_axes_and_voxel_sizes():
    z, y, x = VOXEL_SIZE
    for task in ("denoising", "label_free", "projection"):
        before, after = simulate_pair(task, (8, 32, 40), 0)
        assert (before.axes, before.shape) == ("ZYX", (8, 32, 40))
        assert before.voxel_size == {"Z": z, "Y": y, "X": x}
        assert before.name == after.name == f"{task}_0"
        assert before.array.dtype == after.array.dtype == np.float32
    assert (after.axes, after.shape, after.voxel_size) == ("YX", (32, 40), {"Y": y, "X": x})


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_true_projection_lies_on_the_surface_of_its_stack(seed):
    bare, truth = simulate_surface((24, 72, 72), seed, background=0)
    height = ndimage.median_filter(bare.argmax(0), 5)
    assert abs(np.diff(height, axis=1)).max() <= 3
    assert height.max() - height.min() >= 4  # curved: no single plane shows all of it

    def at(stack, depth):
        depth = np.clip(height + depth, 0, len(stack) - 1)
        return np.take_along_axis(stack, depth[None], 0)[0]

    stack, same = simulate_surface((24, 72, 72), seed)
    np.testing.assert_array_equal(same, truth)
    assert r(at(stack, 0), truth) > 0.9
    assert r(at(stack, 5), truth) < 0.3
    assert max(r(plane, truth) for plane in stack) < r(at(stack, 0), truth) - 0.2


def test_the_tissue_below_the_surface_and_the_noise_are_options():
    clean, truth = simulate_surface((24, 48, 48), 0, background=0)
    tissue, _ = simulate_surface((24, 48, 48), 0, background=0.5)
    assert (tissue - clean).min() > -1e-5
    assert (tissue - clean)[:4].max() < 0.02
    assert (tissue - clean)[-3:].mean() == pytest.approx(0.5, abs=0.1)
    noisy, same = simulate_surface((24, 48, 48), 0, background=0, photons=20, read_noise=3)
    np.testing.assert_array_equal(same, truth)
    assert (noisy - clean).var() == pytest.approx(clean.mean() / 20 + (3 / 20) ** 2, rel=0.05)
    assert simulate_pair("projection", (24, 48, 48), 0, photons=None, background=0)[
        0
    ].array.tobytes() == (clean.tobytes())


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: simulate_cells((16, 64), 0), r"`shape` must be three numbers.*shape=\(16, 64\)"),
        (lambda: simulate_cells("abc", 0), r"`shape` must be three numbers.*shape='abc'"),
        (lambda: simulate_cells((3, 64, 64), 0), r"`shape along Z` must be at least 4.*=3"),
        (lambda: simulate_surface((8, 64, 15), 0), r"`shape along X` must be at least 16.*=15"),
        (lambda: simulate_cells((8, 32.5, 40), 0), r"`shape` must be whole numbers.*32.5"),
        (lambda: simulate_cells(PATCH, -1), r"`seed` must be a whole number, at least 0.*seed=-1"),
        (
            lambda: simulate_cells(PATCH, 0, (12, 2, 24)),
            r"`cell_size along Y` must be at least 4.*=2",
        ),
        (
            lambda: simulate_cells(PATCH, 0, nucleus=0.6),
            r"`nucleus` must be between 0 and 0.5.*0.6",
        ),
        (lambda: simulate_cells(PATCH, 0, membrane=0), r"`membrane` must be more than 0"),
        (lambda: simulate_cells(PATCH, 0, body=-1), r"`body` must be more than 0.*body=-1"),
        (
            lambda: simulate_cells(PATCH, 0, bodies_per_cell=-1),
            r"`bodies_per_cell` must be at least 0",
        ),
        (lambda: simulate_surface(PATCH, 0, thickness=0), r"`thickness` must be more than 0"),
        (lambda: simulate_surface(PATCH, 0, background=-1), r"`background` must be at least 0"),
        (lambda: simulate_surface(PATCH, 0, cell_size=1), r"`cell_size` must be at least 4"),
        (lambda: simulate_pair("denoise", PATCH, 0), r"`task` cannot be 'denoise'.*'denoising'"),
        (
            lambda: simulate_pair("denoising", PATCH, 0, photons=-2),
            r"`photons` must be more than 0.*=-2",
        ),
        (lambda: simulate_pair("denoising", PATCH, 0, photon=2), r"option of denoising.*'photons'"),
        (
            lambda: simulate_pair("denoising", PATCH, 0, structures=[]),
            r"`structures` must be a list",
        ),
        (lambda: simulate_pair("denoising", PATCH, 0, structures="nuclei"), r"structures='nuclei'"),
        (
            lambda: simulate_pair("label_free", PATCH, 0, structure="nucleus"),
            r"`structure` cannot be 'nucleus'.*'nuclei'",
        ),
    ],
)
def test_impossible_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
