"""Tables and products that are baked into graphs: upstream's values, rounded once."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from exporters.sam2.tracker.tables import (  # noqa: E402
    fixed_product,
    rotary_positions,
    sine_positions,
)


@pytest.mark.parametrize(("side", "channels"), [(64, 256), (64, 64), (8, 64)])
def test_places_are_upstreams(side: int, channels: int) -> None:
    from sam2.modeling.position_encoding import PositionEmbeddingSine

    table = PositionEmbeddingSine(channels)(torch.zeros(1, 1, side, side))
    expected = table[0].flatten(1).transpose(0, 1)
    found = sine_positions(side, channels)()
    assert found.shape == expected.shape
    # Upstream's angles, up to 2 pi, carry float32's error.
    assert (found - expected).abs().max() < 2e-6


@pytest.mark.parametrize("side", [64, 8])
def test_rotations_are_upstreams(side: int) -> None:
    from sam2.modeling.position_encoding import compute_axial_cis

    expected = compute_axial_cis(256, side, side, 10000.0)
    cosines, sines = (table() for table in rotary_positions(side, 256, 10000.0))
    assert cosines.shape == expected.shape
    # One step of float32 in a frequency moves an angle of 63 by 4e-6.
    assert (cosines - expected.real).abs().max() < 5e-6
    assert (sines - expected.imag).abs().max() < 5e-6
    # The angle of the first channel is the place itself, which is exact.
    places = np.arange(side)
    assert (cosines[:side, 0].numpy() == np.cos(places).astype(np.float32)).all()


def test_a_product_is_summed_in_one_order() -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    left, right = (generator.standard_normal((256, 256), dtype=np.float32) for _ in range(2))
    found = fixed_product(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    exact = left.astype(np.float64) @ right.astype(np.float64)
    assert np.abs(found - exact).max() <= np.spacing(np.float32(np.abs(exact).max()))
    # Float64 leaves the order of the sum no say but in ties of the last rounding.
    again = fixed_product(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    assert (found == again).all()
