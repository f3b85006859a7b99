"""Whether a smaller graph is worth having."""

import pytest

from exporters.checks.benefit import does_pay


@pytest.mark.parametrize(
    ("size", "speed", "pays"),
    [
        (0.97, {"cpu": 0.5}, True),
        (0.98, {"cpu": 1.0}, False),
        (1.2, {"cpu": 1.02, "cuda": 1.03}, True),
        (1.2, {"cpu": 1.02}, False),
    ],
)
def test_less_room_or_less_time_pays(size: float, speed: dict[str, float], pays: bool) -> None:
    assert does_pay(size, speed) is pays
