"""The published answers ship whole and small; what is left out of them comes back from seeds."""

import numpy as np
import pytest
from checkpoints import Parity
from parity.reduce import LISTS, reduce
from parity.weights import CASES


@pytest.fixture
def full(parity, tmp_path):
    """The files as they were before the reduction, and an empty folder for the reduced ones."""
    for case in CASES:
        np.savez(tmp_path / f"{case}.npz", **Parity(parity).answers(case))
    for name in LISTS:
        (tmp_path / name).write_bytes((parity / name).read_bytes())
    (tmp_path / "out").mkdir()
    return tmp_path


def test_the_reduction_leaves_out_inputs_and_targets_alone(full, parity):
    reduce(full, full / "out")
    for case in CASES:
        with (
            np.load(full / "out" / f"{case}.npz") as found,
            np.load(parity / f"{case}.npz") as held,
        ):
            assert set(found) == set(held) == set(Parity(full).answers(case)) - {"x", "y"}
            for name in held:
                assert found[name].dtype == held[name].dtype
                np.testing.assert_array_equal(found[name], held[name])
    for name in LISTS:
        assert (full / "out" / name).read_bytes() == (parity / name).read_bytes()


@pytest.mark.parametrize(
    "spoil, shape",
    [
        (lambda held: held["y"].__setitem__(0, np.nextafter(held["y"][0], np.float32(9))), "(2,"),
        (lambda held: held.pop("y"), "None; drawn: shape (2,"),
    ],
    ids=["another bit", "missing"],
)
def test_an_array_that_its_seed_does_not_give_is_not_left_out(full, spoil, shape):
    held = Parity(full).answers("denoising")
    spoil(held)
    np.savez(full / "denoising.npz", **held)
    with pytest.raises(ValueError) as error:
        reduce(full, full / "out")
    message = f"`y` of {full / 'denoising'}.npz is not what its seed gives, and would be lost: give"
    assert message in str(error.value)
    assert f"Received: shape {shape}" in str(error.value)
    assert not (full / "out" / "denoising.npz").exists()


def test_the_folder_stays_below_four_megabytes(parity):
    assert sum(path.stat().st_size for path in parity.glob("*.*")) < 4_000_000
