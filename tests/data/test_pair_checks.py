import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gvtnets_tf.data.pair_checks import check_pairs
from gvtnets_tf.data.pairing import match_pairs
from gvtnets_tf.images.image import Image
from gvtnets_tf.images.writers import write


def cells(seed=0, shape=(6, 96, 112), blur=3):
    """Blobs and, for a second modality, their inverse on another scale."""
    rng = np.random.default_rng(seed)
    blobs = gaussian_filter(rng.normal(size=shape), (1, blur, blur)) > 0.02
    soft = gaussian_filter(blobs.astype(float), (0.5, 1, 1))
    noise = rng.normal(size=(2, *shape))
    return np.uint16(1000 + 500 * soft + 20 * noise[0]), np.uint16(900 - 300 * soft + 20 * noise[1])


def saved(folder, name, pixels, axes="ZYX"):
    path = folder / f"{name}.tif"
    return write(path, Image(pixels, axes[-pixels.ndim :]))


def check(tmp_path, x, y, **kwargs):
    pair = saved(tmp_path, "x", x), saved(tmp_path, "y", y)
    return pair, check_pairs([pair], **kwargs)


@pytest.mark.parametrize("seed", range(3))
def test_a_good_pair_of_two_modalities_is_silent(tmp_path, seed):
    assert check(tmp_path, *cells(seed))[1] == []


@pytest.mark.parametrize("seed", range(3))
def test_unrelated_images_are_not_called_shifted(tmp_path, seed):
    assert check(tmp_path, cells(seed)[0], cells(seed + 50)[1])[1] == []


@pytest.mark.parametrize("dy, dx", [(5, -7), (-4, 0), (0, 3), (12, 10)])
def test_a_known_shift_is_found_and_undone(tmp_path, dy, dx):
    x, y = cells(shape=(6, 140, 140))
    a = x[:, 20:120, 20:120]
    b = y[:, 20 + dy : 120 + dy, 20 + dx : 120 + dx]
    pair, (finding,) = check(tmp_path, a, b)
    assert (finding.pair, finding.level) == (pair, "warning")
    assert f"moving it by {dy} pixels along Y and {dx} along X" in finding.message


def test_a_shift_of_a_projection_is_found_too(tmp_path):
    x, _ = cells(shape=(4, 140, 140), blur=5)
    assert check(tmp_path, x, x.max(0))[1] == []
    b = np.roll(x.max(0), (-6, 8), (0, 1))
    (finding,) = check_pairs([(tmp_path / "x.tif", saved(tmp_path, "shifted", b))])
    assert "moving it by 6 pixels along Y and -8 along X" in finding.message


def spoiled(kind):
    x, y = cells()
    if kind == "size":
        y = y[:, :, :-1]
    elif kind == "depth":
        y = y[:-1]
    elif kind == "constant":
        y = np.full_like(y, 7)
    elif kind == "saturated":
        y = np.where(np.random.default_rng(0).random(y.shape) < 0.05, 65535, y).astype("uint16")
    elif kind == "nan":
        y = y.astype("float32")
        y[0, 0, :3] = np.nan
    elif kind == "complex":
        y = y.astype("complex64")
    return x, y


@pytest.mark.parametrize(
    "kind, level, message",
    [
        ("size", "error", "Sizes differ along X: input ZYX (6, 96, 112), target ZYX (6, 96, 111)."),
        (
            "depth",
            "error",
            "Sizes differ along Z: input ZYX (6, 96, 112), target ZYX (5, 96, 112).",
        ),
        ("constant", "error", "The target is constant: all values are 7."),
        ("saturated", "warning", "The target is saturated: 5.0% of its voxels are 65535."),
        ("nan", "error", f"The target holds 3 NaN or infinite values of {6 * 96 * 112}."),
        ("complex", "error", "The target is of complex64, which cannot be trained on."),
    ],
)
def test_what_is_wrong_with_a_pair_is_said(tmp_path, kind, level, message):
    pair, findings = check(tmp_path, *spoiled(kind))
    assert [(f.pair, f.level, f.message) for f in findings] == [(pair, level, message)]


def test_a_broken_file_is_a_finding_and_the_others_are_still_checked(tmp_path):
    x, y = cells()
    good = saved(tmp_path, "x", x), saved(tmp_path, "y", y)
    broken = saved(tmp_path, "x2", x), tmp_path / "y2.tif"
    broken[1].touch()
    constant = good[0], saved(tmp_path, "y3", np.zeros_like(y))
    findings = check_pairs([broken, good, constant])
    assert [(f.pair, f.level) for f in findings] == [(broken, "error"), (constant, "error")]
    assert "y2.tif is empty (0 bytes)" in findings[0].message


def test_a_file_of_another_dtype_than_its_fellows_is_named(tmp_path):
    pairs = []
    for i in range(3):
        x, y = cells(i)
        y = y.astype("float32") if i == 1 else y
        pairs.append((saved(tmp_path, f"x{i}", x), saved(tmp_path, f"y{i}", y)))
    (finding,) = check_pairs(pairs)
    assert finding.pair == pairs[1]
    assert finding.message == "The target is of float32, most others are of uint16."


def test_only_the_chosen_channels_are_looked_at(tmp_path):
    x, y = cells()
    both = np.stack([x, np.zeros_like(x), y])
    path = saved(tmp_path, "both", both, axes="CZYX")
    pair = (path, path)
    assert check_pairs([pair], input_channels=[0], target_channels=[2]) == []
    findings = check_pairs([pair], input_channels=[0], target_channels=[0, 1])
    assert [f.message for f in findings] == [
        "The target, channel 1, is constant: all values are 0."
    ]
    (finding,) = check_pairs([pair], input_channels=[5])
    assert "has no channel 5" in finding.message


def test_axes_of_the_input_serve_a_target_without_z(tmp_path):
    x, _ = cells()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x.max(0))
    assert check_pairs([(tmp_path / "x.npy", tmp_path / "y.npy")], axes="zyx") == []


@pytest.mark.shared
def test_registered_real_pairs_are_silent_and_shifted_ones_are_not(microscopy, tmp_path):
    from gvtnets_tf.images.readers import read

    folder = microscopy / "w2s-8bit"
    pairs = match_pairs(f"{folder}/train_*_avg1.tif", f"{folder}/train_*_avg400.tif")[:3]
    assert not [f for f in check_pairs(pairs) if "shifted" in f.message]
    for i, (noisy, clean) in enumerate(pairs):
        x, y = read(noisy).numpy()[0], read(clean).numpy()[0]
        pair = (
            saved(tmp_path, f"x{i}", x[20:-20, 20:-20]),
            saved(tmp_path, f"y{i}", y[26:-14, 20:-20]),
        )
        assert "moving it by 6 pixels along Y and 0" in check_pairs([pair])[-1].message
