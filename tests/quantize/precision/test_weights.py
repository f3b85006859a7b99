"""Weights in integers, and their scales."""

import numpy as np

from exporters.precision.weights import quantize_channels, scale_of


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
