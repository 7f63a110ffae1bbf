"""Tests of `gvtnets_tf.data.synthetic.shapes`."""

import numpy as np
import pytest

from gvtnets_tf.data.synthetic.shapes import (
    bend_grid,
    evaluate_gaussian,
    find_nearest,
    jitter_lattice,
    paint_spots,
    smooth_field,
)


def rng():
    return np.random.default_rng(5)


def test_the_nearest_seed_and_the_border_agree_with_brute_force():
    points, seeds = rng().uniform(0, 3, (50, 3)), jitter_lattice((3, 3, 3), rng())
    owner, border = find_nearest(points, seeds)
    distance = np.linalg.norm(points[:, None] - seeds, axis=-1)
    first, second = np.argsort(distance, axis=1)[:, :2].T
    np.testing.assert_array_equal(owner, first)
    # Distance to the plane that halves the way, from its normal and its middle.
    normal = (seeds[first] - seeds[second]) / np.linalg.norm(
        seeds[first] - seeds[second], axis=1, keepdims=True
    )
    middle = (seeds[first] + seeds[second]) / 2
    np.testing.assert_allclose(border, ((points - middle) * normal).sum(1), atol=1e-12)


@pytest.mark.parametrize("shape, scale", [((8, 32, 40), 2.0), ((64, 64), (3, 6))])
def test_a_field_has_mean_zero_and_deviation_one_and_is_smooth(shape, scale):
    values = smooth_field(shape, scale, rng())
    assert abs(values.mean()) < 1e-5
    assert values.std() == pytest.approx(1, abs=1e-4)
    assert np.diff(values, axis=-1).std() < 0.5


def test_bent_coordinates_count_cells():
    points = bend_grid((12, 48), np.array([12, 24]), rng())
    assert points.shape == (12, 48, 2)
    straight = np.stack(np.indices((12, 48)) / np.array([12, 24])[:, None, None], -1)
    assert 0.01 < np.abs(points - straight).mean() < 0.1


def test_a_bell_is_a_gaussian_without_denormal_tails():
    np.testing.assert_allclose(evaluate_gaussian(np.array([0, 1, -2])), np.exp([0, -0.5, -2]))
    assert evaluate_gaussian(np.array(30.0)) == 0


def test_spots_lie_where_there_is_room_and_no_more_than_fit():
    room = np.zeros((5, 9, 9), bool)
    room[2, 4, 4] = True
    volume = paint_spots(room, 10, (0.5, 1, 1), rng())
    assert np.unravel_index(volume.argmax(), volume.shape) == (2, 4, 4)
    assert 0.5 <= volume.max() <= 1
    assert volume[2, 0, 0] == 0
    assert not paint_spots(~room & room, 3, (1, 1, 1), rng()).any()
