"""Simulated microscopes: blur, noise and transmitted light of a known volume.

Volumes are `(z, y, x)`, light travels along z, and a volume continues beyond its border as its
mirror image.
"""

from collections.abc import Sequence

import numpy as np
from scipy import fft, ndimage

from gvtnets_tf.checks import check_at_least

VOXEL_SIZE = (0.58, 0.29, 0.29)  # micrometers along z, y, x
PSF = (1.2, 0.8, 0.8)  # voxels along z, y, x; a Gaussian is wider along the light
MARGIN = (8, 16, 16)  # voxels of mirror image that take part in transmitted light


def check_volume(name: str, volume: np.ndarray) -> np.ndarray:
    """Return `volume` as float32 if it has three axes, none empty, else raise `ValueError`."""
    volume = np.asarray(volume, np.float32)
    if volume.ndim != 3 or not volume.size:
        raise ValueError(f"`{name}` must be a (z, y, x) volume. Received: shape {volume.shape}.")
    return volume


def check_three(name: str, values: Sequence[float], least: Sequence[float] | float) -> tuple:
    """Return `values` as a tuple if it holds three numbers, for z, y, x, each at least `least`."""
    if np.shape(values) != (3,) or np.asarray(values).dtype.kind not in "iuf":
        raise ValueError(
            f"`{name}` must be three numbers, for z, y and x. Received: {name}={values!r}."
        )
    for letter, value, low in zip("ZYX", values, np.broadcast_to(least, 3).tolist()):
        check_at_least(f"{name} along {letter}", value, low)
    return tuple(values)


def check_positive(name: str, value: float) -> float:
    """Return `value` if it is more than 0, else raise `ValueError`."""
    if not value > 0:
        raise ValueError(f"`{name}` must be more than 0. Received: {name}={value!r}.")
    return value


def make_generator(seed: int, purpose: str) -> np.random.Generator:
    """Return the random generator of one purpose, so that two purposes never share draws."""
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"`seed` must be a whole number, at least 0. Received: seed={seed!r}.")
    return np.random.default_rng((int(seed), *purpose.encode()))


def blur_with_psf(volume: np.ndarray, sigma: Sequence[float] = PSF) -> np.ndarray:
    """Blur with the Gaussian point spread function of a fluorescence microscope.

    Args:
        volume: array `(z, y, x)`.
        sigma: three floats. Standard deviation along z, y and x, in voxels; 0 for none.

    Returns:
        float32 `(z, y, x)` with the same mean.

    Examples:
        >>> bead = np.pad([[[1.0]]], 4)
        >>> print(f"{blur_with_psf(bead, sigma=(1, 1, 1)).max():.4f}")
        0.0635
    """
    sigma = check_three("sigma", sigma, 0)
    return ndimage.gaussian_filter(check_volume("volume", volume), sigma, mode="reflect")


def add_camera_noise(
    volume: np.ndarray, photons: float, read_noise: float = 0.0, seed: int = 0
) -> np.ndarray:
    """Add the noise of a camera: Poisson noise of the photons, and Gaussian read noise.

    Args:
        volume: array of any rank, at least 0. A value of 1 stands for `photons` photons.
        photons: float. Photons that a value of 1 sends to one voxel.
        read_noise: float. Standard deviation of the Gaussian read noise, in photons.
        seed: int.

    Returns:
        float32, in the units of `volume` and without offset: the mean is `volume`, the
        variance `volume / photons + (read_noise / photons) ** 2`.

    Examples:
        >>> image = add_camera_noise(np.ones((100, 100)), photons=25, seed=0)
        >>> print(f"{image.mean():.1f} {image.std():.1f}")
        1.0 0.2
    """
    volume = np.asarray(volume)
    check_positive("photons", photons)
    check_at_least("read_noise", read_noise, 0)
    check_at_least("smallest value of volume", volume.min(), 0)
    rng = make_generator(seed, "camera")
    counts = rng.poisson(volume * photons).astype(np.float32)
    counts += read_noise * rng.standard_normal(volume.shape, np.float32)
    return counts / np.float32(photons)


def simulate_transmitted_light(
    index: np.ndarray, voxel_size: Sequence[float] = VOXEL_SIZE, *, wavelength: float = 0.55,
    objective_na: float = 0.6, condenser_na: float = 0.34, photons: float | None = None,
    read_noise: float = 0.0, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Simulate the bright-field stack of a transparent specimen, a weak phase object.

    To first order in the contrast of the index (first Born approximation), the light at each
    plane is 1 plus the index convolved with the kernel of `compute_phase_transfer`. The kernel is
    odd in z: an object is invisible in its own plane, and visible in the planes below and
    above.

    Args:
        index: array `(z, y, x)`. Refractive index; its mean is that of the medium.
        voxel_size: three floats. Micrometers along z, y and x.
        wavelength: float. Of the light in vacuum, in micrometers.
        objective_na, condenser_na: float. Numerical apertures. The light is the more coherent the
            smaller the condenser's.
        photons, read_noise, seed: as in `add_camera_noise`; `photons=None` for no noise.

    Returns:
        float32 `(z, y, x)`, the light relative to the empty field, which is 1.

    Raises:
        ValueError: if the apertures are impossible, or the voxels too coarse for them.

    Reference:
        Streibl (1985), Three-dimensional imaging by a microscope, J. Opt. Soc. Am. A 2,
        121-127. https://doi.org/10.1364/JOSAA.2.000121

    Examples:
        >>> simulate_transmitted_light(np.full((8, 16, 16), 1.36)).mean()
        np.float32(1.0)
    """
    index = check_volume("index", index)
    medium = float(index.mean())
    check_three("voxel_size", voxel_size, 1e-6)
    lens = (check_positive("wavelength", wavelength), objective_na, condenser_na)
    _check_apertures(medium, voxel_size[1:], *lens)
    sizes = (fft.next_fast_len(n + 2 * m, real=True) for n, m in zip(index.shape, MARGIN))
    margins = [(m, size - n - m) for n, m, size in zip(index.shape, MARGIN, sizes)]
    contrast = np.pad(index - medium, margins, mode="symmetric")
    transfer = compute_phase_transfer(contrast.shape, voxel_size, medium, *lens)
    light = fft.irfftn(fft.rfftn(contrast) * transfer, contrast.shape)
    light = light[tuple(slice(m, m + n) for m, n in zip(MARGIN, index.shape))]
    light = np.maximum(1 + light, 0)  # to first order, it could be darker than dark
    return light if photons is None else add_camera_noise(light, photons, read_noise, seed)


def compute_phase_transfer(
    shape: Sequence[int], voxel_size: Sequence[float], medium: float, wavelength: float,
    objective_na: float, condenser_na: float,
) -> np.ndarray:  # fmt: skip
    """Compute the transfer function from refractive index to bright-field light, complex64.

    It is purely imaginary, `(z, y, x // 2 + 1)`, for a periodic grid: the Fourier transform of the
    light is its product with `scipy.fft.rfftn` of the index. Lengths are in micrometers.

    The condenser is filled. With s and u transverse spatial frequencies of a ray of the condenser
    and of the object, k(s) the axial wave number, and P the pupil of the objective, the object
    scatters the ray s into s + u, and the interference of both at a distance z is the kernel

        h(u, z) = -2 k0^2 n Im < P(s + u) / k(s + u) exp(i (k(s + u) - k(s)) z) >

    averaged over the rays of the condenser; `k0` is the wave number in vacuum and `n` the
    index of the medium. The average over s is a correlation, computed plane by plane.

    Streibl (1985), https://doi.org/10.1364/JOSAA.2.000121, in the form of Chen, Tian & Waller
    (2016), 3D differential phase contrast microscopy, Biomed. Opt. Express 7, 3940-3950.
    https://doi.org/10.1364/BOE.7.003940
    """
    fy, fx = (fft.fftfreq(n, d).astype(np.float32) for n, d in zip(shape[1:], voxel_size[1:]))
    frequency = np.hypot(fy[:, None], fx)
    rays = frequency <= condenser_na / wavelength
    pupil = frequency <= objective_na / wavelength
    axial = 2 * np.pi * np.sqrt(np.maximum((medium / wavelength) ** 2 - frequency**2, 1e-6))
    # The kernel is odd: the planes above the object suffice. Half a period away it must be
    # its own negative, hence zero.
    planes = np.arange(1, (shape[0] + 1) // 2, dtype=np.float32)
    wave = np.exp(1j * axial * (voxel_size[0] * planes[:, None, None]))
    # Both factors are even in frequency, so that correlating them is convolving them.
    sent = fft.fft2(rays / rays.sum() * wave.conj())
    collected = fft.fft2(pupil / axial * wave)
    average = fft.ifft2(sent * collected)[..., : shape[2] // 2 + 1].imag
    kernel = np.zeros((*shape[:2], shape[2] // 2 + 1), np.float32)
    scale = -2 * (2 * np.pi / wavelength) ** 2 * medium * voxel_size[0]
    kernel[1 : len(planes) + 1] = scale * average
    kernel[len(kernel) - len(planes) :] = -kernel[len(planes) : 0 : -1]
    return fft.fft(kernel, axis=0)


def _check_apertures(medium, voxel_size, wavelength, objective_na, condenser_na):
    if not 0 < condenser_na <= objective_na < medium:
        raise ValueError(
            f"Apertures must satisfy 0 < condenser <= objective < index of the medium "
            f"({medium:.3f}). Received: condenser_na={condenser_na}, objective_na={objective_na}."
        )
    coarsest = wavelength / (2 * (objective_na + condenser_na))
    if max(voxel_size) > coarsest:
        raise ValueError(
            f"These apertures need voxels of at most {coarsest:.3f} micrometers along y and x: "
            f"lower them, or the voxel size. Received: voxel_size={tuple(voxel_size)}, "
            f"objective_na={objective_na}, condenser_na={condenser_na}, wavelength={wavelength}."
        )
