"""Tests of `gvtnets_tf.data.synthetic.optics`."""

import numpy as np
import pytest

from gvtnets_tf.data.synthetic.optics import (
    add_camera_noise,
    blur_with_psf,
    compute_phase_transfer,
    simulate_transmitted_light,
)

LENS = {"wavelength": 0.55, "objective_na": 0.6, "condenser_na": 0.34}
SIZE = (0.58, 0.29, 0.29)


def bead(nz=16):
    """The index of a small bead half-way between planes `nz // 2 - 1` and `nz // 2`."""
    z, y, x = np.indices((nz, 48, 48)) - np.array([(nz - 1) / 2, 24, 24])[:, None, None, None]
    return 1.36 + 0.01 * np.exp(-(z**2 / 2 + y**2 / 8 + x**2 / 8))


def test_a_blur_keeps_the_mean_and_is_wider_along_z():
    point = np.zeros((25, 25, 25))
    point[12, 12, 12] = 1
    blurred = blur_with_psf(point, (2, 1, 1))
    assert blurred.dtype == np.float32
    assert blurred.sum() == pytest.approx(1, abs=1e-4)
    z, _, x = np.indices(point.shape) - 12
    assert (z**2 * blurred).sum() == pytest.approx(4, rel=0.02)
    assert (x**2 * blurred).sum() == pytest.approx(1, rel=0.02)
    np.testing.assert_array_equal(blur_with_psf(point, (0, 0, 0)), point)


@pytest.mark.parametrize("photons, read_noise", [(5, 0), (5, 3), (200, 2)])
def test_camera_noise_has_the_mean_and_variance_of_its_photons(photons, read_noise):
    for value in (0.0, 0.3, 2.0):
        taken = add_camera_noise(np.full((40, 50, 50), value), photons, read_noise, seed=1)
        variance = value / photons + (read_noise / photons) ** 2
        # Five standard errors of a mean and of a variance over 100,000 voxels.
        assert abs(taken.mean() - value) <= 5 * np.sqrt(variance / taken.size)
        assert taken.var() == pytest.approx(variance, rel=0.05)


def test_without_read_noise_the_camera_counts_whole_photons():
    taken = add_camera_noise(np.full((4, 8, 8), 0.7), 10) * 10
    np.testing.assert_allclose(taken, np.round(taken), atol=1e-4)
    assert taken.dtype == np.float32


def test_noise_depends_on_the_seed_and_only_on_it():
    volume = np.ones((4, 8, 8))
    assert (
        add_camera_noise(volume, 10, 1, seed=3).tobytes()
        == add_camera_noise(volume, 10, 1, seed=3).tobytes()
    )
    assert (
        add_camera_noise(volume, 10, 1, seed=3) != add_camera_noise(volume, 10, 1, seed=4)
    ).any()


def test_with_coherent_light_the_transfer_is_that_of_a_defocused_phase_screen():
    lens = LENS | {"condenser_na": 1e-3, "wavelength": 0.5}
    transfer = compute_phase_transfer((40, 64, 64), SIZE, 1.36, **lens)
    kernel = np.fft.ifft(transfer, axis=0)
    z, u = np.arange(8) * SIZE[0], 6 / (64 * SIZE[1])
    # A screen of phase p gives the contrast 2 p sin(pi wavelength z u^2), u small.
    phase = 2 * np.pi / 0.5 * SIZE[0]
    expected = 2 * phase * np.sin(np.pi * 0.5 / 1.36 * z * u**2)
    np.testing.assert_allclose(kernel[:8, 0, 6].real, expected, rtol=0.02, atol=1e-3)


def test_the_light_agrees_with_waves_sent_through_a_screen_one_ray_at_a_time():
    n, lens = 40, {"wavelength": 0.55, "objective_na": 0.35, "condenser_na": 0.2}
    rng = np.random.default_rng(0)
    index = np.zeros((24, n, n))
    index[0] = 1e-3 * rng.standard_normal((n, n))
    transfer = compute_phase_transfer(index.shape, SIZE, 1.36, **lens)
    light = np.fft.irfftn(np.fft.rfftn(index) * transfer, index.shape, axes=(0, 1, 2))

    fy, fx = np.meshgrid(np.fft.fftfreq(n, SIZE[1]), np.fft.fftfreq(n, SIZE[2]), indexing="ij")
    frequency = np.hypot(fy, fx)
    y, x = np.indices((n, n)) * SIZE[1]
    axial = 2 * np.pi * np.sqrt((1.36 / 0.55) ** 2 - np.minimum(frequency, 1) ** 2)
    screen = np.exp(2j * np.pi / 0.55 * SIZE[0] * index[0])
    rays = np.argwhere(frequency <= 0.2 / 0.55)
    for plane in (3, 8):
        carry = (frequency <= 0.35 / 0.55) * np.exp(1j * axial * plane * SIZE[0])
        sent = (np.exp(2j * np.pi * (fy[i, j] * y + fx[i, j] * x)) for i, j in rays)
        seen = [abs(np.fft.ifft2(np.fft.fft2(ray * screen) * carry)) ** 2 for ray in sent]
        expected = np.mean(seen, axis=0) - 1
        expected -= expected.mean()
        assert np.linalg.norm(light[plane] - expected) < 0.05 * np.linalg.norm(expected)


def test_what_is_in_focus_is_invisible_and_defocus_turns_the_sign():
    # A thin object, so deep in the volume that its mirror images play no part.
    index = np.full((48, 48, 48), 1.36)
    index[24, 20:28, 20:28] += 0.01
    light = simulate_transmitted_light(index) - 1
    assert abs(light[24]).max() < 1e-3 * abs(light).max()
    np.testing.assert_allclose(light[21], -light[27], atol=1e-3 * abs(light).max())
    # A denser bead is a lens: it gathers light behind it, and leaves a shadow before it.
    light = simulate_transmitted_light(bead())
    assert light[11, 24, 24] > 1.01
    assert light[4, 24, 24] < 0.99


def test_contrast_is_linear_in_the_index_and_light_is_conserved():
    weak, strong = (
        simulate_transmitted_light(1.36 + gain * (bead() - 1.36)) - 1 for gain in (1, 2)
    )
    np.testing.assert_allclose(strong, 2 * weak, atol=2e-3 * abs(strong).max())
    assert abs(strong.mean()) < 1e-3
    np.testing.assert_allclose(simulate_transmitted_light(np.full((4, 16, 16), 1.36)), 1, atol=1e-5)


def test_more_coherent_light_gives_more_contrast():
    wide, narrow = (simulate_transmitted_light(bead(), condenser_na=na).std() for na in (0.34, 0.1))
    assert narrow > 1.2 * wide


def test_shot_noise_is_an_option():
    clean = simulate_transmitted_light(bead())
    noisy = simulate_transmitted_light(bead(), photons=100, read_noise=5, seed=2)
    assert (noisy - clean).var() == pytest.approx(1 / 100 + 0.05**2, rel=0.05)
    assert noisy.tobytes() == add_camera_noise(clean, 100, 5, seed=2).tobytes()


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: add_camera_noise(np.ones((2, 2)), -3),
            r"`photons` must be more than 0.*photons=-3",
        ),
        (lambda: add_camera_noise(np.ones((2, 2)), 3, -1), r"`read_noise` must be at least 0.*=-1"),
        (
            lambda: add_camera_noise(-np.ones((2, 2)), 3),
            r"`smallest value of volume` must be at least 0",
        ),
        (
            lambda: add_camera_noise(np.ones(2), 3, seed=-1),
            r"`seed` must be a whole number.*seed=-1",
        ),
        (
            lambda: add_camera_noise(np.ones(2), 3, seed=0.5),
            r"`seed` must be a whole number.*seed=0.5",
        ),
        (
            lambda: blur_with_psf(np.ones((4, 4))),
            r"`volume` must be a \(z, y, x\) volume.*\(4, 4\)",
        ),
        (lambda: blur_with_psf(np.ones((4, 4, 4)), (1, 1)), r"`sigma` must be three numbers"),
        (
            lambda: blur_with_psf(np.ones((4, 4, 4)), (1, 1, -1)),
            r"`sigma along X` must be at least 0",
        ),
        (
            lambda: simulate_transmitted_light(np.ones((4, 4))),
            r"`index` must be a \(z, y, x\) volume",
        ),
        (
            lambda: simulate_transmitted_light(bead(), wavelength=0),
            r"`wavelength` must be more than 0",
        ),
        (lambda: simulate_transmitted_light(bead(), photons=0), r"`photons` must be more than 0"),
        (
            lambda: simulate_transmitted_light(bead(), objective_na=1.4),
            r"0 < condenser <= objective",
        ),
        (lambda: simulate_transmitted_light(bead(), condenser_na=0.7), r"condenser_na=0.7"),
        (
            lambda: simulate_transmitted_light(bead(), (0.5, 0.4, 0.4)),
            r"at most 0.293 micrometers.*lower them.*voxel_size=\(0.4, 0.4\)",
        ),
        (lambda: simulate_transmitted_light(bead(), (0, 1, 1)), r"`voxel_size along Z` must be"),
    ],
)
def test_impossible_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
