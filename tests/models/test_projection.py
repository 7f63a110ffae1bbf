import numpy as np
import pytest
import tensorflow as tf
from common_checks import check_arguments, check_model, set_weights

from gvtnets_tf.models.projection import ProjectionGVTNet, SurfaceProjection

# Keras' file writer calls NumPy 2 as NumPy 1 wanted.
SURFACE = {"filters": 4, "num_heads": 4, "collapse": "softmax"}
RESTORE = {
    "filters": 2,
    "depth": 2,
    "up": "gvto_v2",
    "norm": None,
    "num_heads": 2,
    "input_residual": True,
}
WHOLE = {"projection": {**SURFACE, "num_heads": 2}, "restoration": RESTORE}


@pytest.mark.parametrize("config", [SURFACE, {"filters": 2, "num_heads": 1}])
def test_surface_projection_common_checks(noise, tmp_path, config):
    make = lambda **kwargs: SurfaceProjection(**config, **kwargs)
    # Six convolutions of two weights, one GVTO of eight, two of six.
    check_model(make, noise(2, 3, 32, 16, 1), tmp_path, weights=32)


def test_projection_common_checks(noise, tmp_path):
    make = lambda **kwargs: ProjectionGVTNet(**WHOLE, **kwargs)
    check_model(make, noise(1, 3, 16, 32, 1), tmp_path, weights=60)


def test_projections_keep_every_argument():
    check_arguments(SurfaceProjection, SURFACE)
    check_arguments(ProjectionGVTNet, WHOLE)


@pytest.mark.parametrize("collapse", ["mean", "softmax"])
def test_the_plane_is_a_weighted_sum_over_z(noise, collapse):
    model, x = SurfaceProjection(2, 1, collapse=collapse), noise(1, 5, 16, 16, 2)
    model.build(x.shape)
    # A last convolution that answers 0.5 everywhere: every plane counts alike.
    model.weigh.kernel.assign(np.zeros(model.weigh.kernel.shape))
    model.weigh.bias.assign([0.5])
    factor = 0.5 if collapse == "mean" else 1.0
    np.testing.assert_allclose(model(x), factor * x.mean(1), rtol=1e-4, atol=1e-6)


def test_the_projection_is_restored_by_the_second_network(noise):
    model, x = ProjectionGVTNet(**WHOLE), noise(1, 3, 16, 16, 1)
    np.testing.assert_allclose(model(x), model.restore(model.project(x)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_sums_of_the_whole_give_the_same_answer(noise, dtype):
    model, x = ProjectionGVTNet(**WHOLE, dtype=dtype), noise(1, 3, 16, 32, 1)
    model.build(x.shape)
    set_weights(model)
    expected, found = np.asarray(model(x)), {}
    names = ["bottom", "ups.1", "ups.0"]
    names = [*(f"project.{name}" for name in names), "restore.bottoms.0", "restore.ups.0"]
    assert list(model.operators) == names
    for name, operator in model.operators.items():
        found[name] = operator.summarize(model(x, stop_at=name, summaries=found))
    assert {t.dtype for summary in found.values() for t in summary} == {tf.float32}
    tolerance = (1e-5 if dtype == "float32" else 0.05) * np.abs(expected).max()
    np.testing.assert_allclose(model(x, summaries=found), expected, rtol=0, atol=tolerance)
    for name, (kv, count) in found.items():
        other = np.asarray(model(x, summaries={**found, name: (kv * 0, count)}))
        assert np.abs(other - expected).max() > 0, name


def test_the_divisor_is_that_of_both_networks():
    assert SurfaceProjection().divisor == (1, 16, 16)
    assert ProjectionGVTNet().divisor == (1, 16, 16)
    assert ProjectionGVTNet(restoration={"depth": 6}).divisor == (1, 32, 32)


@pytest.mark.parametrize("model", [SurfaceProjection, ProjectionGVTNet])
def test_a_stack_that_cannot_be_pooled_is_refused_by_name(noise, model):
    with pytest.raises(ValueError, match=r"24 voxels along X.*multiple of 16: crop to 16 or pad"):
        model()(noise(1, 3, 16, 24, 1))


def test_any_number_of_planes_is_accepted(noise):
    model = SurfaceProjection(2, 1)
    assert [model(noise(1, z, 16, 16, 1)).shape for z in (1, 5, 7)] == [(1, 16, 16, 1)] * 3


def test_arguments_that_do_not_fit_are_named(noise):
    with pytest.raises(ValueError, match=r"`collapse` cannot be 'men'. Did you mean 'mean'"):
        SurfaceProjection(collapse="men")
    with pytest.raises(ValueError, match=r"`operator` cannot be 'project.up.1'.*'project.ups.1'"):
        ProjectionGVTNet(**WHOLE)(noise(1, 3, 16, 16, 1), stop_at="project.up.1")
    with pytest.raises(ValueError, match=r"`skip` cannot be 'ad'"):
        ProjectionGVTNet(restoration={"skip": "ad"})
