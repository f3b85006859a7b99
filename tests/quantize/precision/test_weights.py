"""Weights in integers, and their scales."""

import numpy as np

from exporters.precision.weights import quantize_bias, quantize_channels, scale_of


def test_scales_that_become_float16_are_its_numbers_before() -> None:
    weights = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    weights[:, 3] *= 1e-6
    for fp8 in (False, True):
        integers, scales = quantize_channels(weights, 1, fp8=fp8, half=True)
        assert np.array_equal(scales.astype(np.float16).astype(np.float32), scales)
        assert scales.min() >= np.finfo(np.float16).tiny
        back = integers.astype(np.float32) * scales
        wide = np.arange(32) != 3
        bound = np.abs(weights[:, wide]).max(0) / (16 if fp8 else 127)
        assert np.all(np.abs(back - weights)[:, wide] <= bound)
    assert float(np.float16(scale_of(3.3, 127, half=True))) == scale_of(3.3, 127, half=True)
    assert scale_of(3.3, 127, half=True) >= scale_of(3.3, 127)


def test_the_largest_value_takes_all_the_steps() -> None:
    weight = np.array([[0.5, -2.0], [0.0, 0.0]], np.float32)
    values, scales = quantize_channels(weight, 0, fp8=False)
    assert values.tolist() == [[32, -127], [0, 0]]
    assert scales.tolist() == [np.float32(2) / np.float32(127), 1]
    values, scales = quantize_channels(weight, -1, fp8=True)
    assert values.astype(np.float32).tolist() == [[448, -448], [0, 0]]


def test_a_bias_counts_in_the_steps_of_the_products() -> None:
    scales = np.array([0.5, 0.25, 1e-30], np.float32)
    found = quantize_bias(np.array([3.0, -0.9, 1e9], np.float32), scales)
    assert found.tolist() == [6, -4, 2**31 - 1]
