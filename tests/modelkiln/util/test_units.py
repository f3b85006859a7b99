"""Quantities as people write them."""

import pytest

from modelkiln.util.units import human_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        # What would round up to a thousand is one of the next unit.
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (156_008_466, "156.0 MB"),
        (5 * 10**12, "5.0 TB"),
    ],
)
def test_human_bytes(count: int, text: str) -> None:
    assert human_bytes(count) == text
