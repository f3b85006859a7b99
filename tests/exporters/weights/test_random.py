"""Random weights are distinct everywhere, so that a missing part cannot go unnoticed."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from exporters.weights.random import Role, draw_weights, find_roles

torch = pytest.importorskip("torch")


class LayerNorm2d(torch.nn.Module):  # type: ignore[misc, name-defined]
    """A norm that is not torch's own, as upstream has one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(500))
        self.bias = torch.nn.Parameter(torch.zeros(500))


class Network(torch.nn.Module):  # type: ignore[misc, name-defined]
    """One tensor of every role."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = LayerNorm2d()
        self.linear = torch.nn.Linear(400, 500)
        self.conv = torch.nn.Conv2d(16, 32, 5, groups=4)
        self.token = torch.nn.Embedding(1, 500)
        self.pos_embed = torch.nn.Parameter(torch.zeros(1, 500))
        self.gamma = torch.nn.Parameter(1e-6 * torch.ones(500))
        self.register_buffer("table", torch.zeros(2, 250))


def test_roles_follow_from_the_owner() -> None:
    assert dict(find_roles(Network())) == {
        "norm.weight": Role.NORM_SCALE,
        "norm.bias": Role.BIAS,
        "linear.weight": Role.MATRIX,
        "linear.bias": Role.BIAS,
        "conv.weight": Role.MATRIX,
        "conv.bias": Role.BIAS,
        "token.weight": Role.TABLE,
        "pos_embed": Role.TABLE,
        "gamma": Role.GAIN,
        "table": Role.TABLE,
    }


def test_each_role_has_its_distribution() -> None:
    weights = draw_weights(Network(), 0)
    deviations = {name: float(value.std()) for name, value in weights.items()}
    assert deviations["linear.weight"] == pytest.approx(1 / 20, rel=0.02)
    assert deviations["conv.weight"] == pytest.approx(1 / 10, rel=0.05)
    assert deviations["linear.bias"] == pytest.approx(0.1, rel=0.15)
    assert deviations["pos_embed"] == pytest.approx(0.5, rel=0.15)
    assert float(weights["norm.weight"].mean()) == pytest.approx(1, abs=0.03)
    assert weights["gamma"].min() >= 0.2
    assert weights["gamma"].max() <= 1


def test_the_seed_decides_and_nothing_else() -> None:
    first, again, other = (draw_weights(Network(), seed) for seed in (0, 0, 1))
    assert list(first) == sorted(first)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not any(np.array_equal(first[name], other[name]) for name in first)
    drawn = draw_weights(torch.nn.Linear(400, 500), 0)["bias"][:3].tolist()
    assert drawn == [-0.10434863716363907, 0.012588593177497387, -0.04928019270300865]


def test_no_two_tensors_are_equal_and_none_is_constant(weights: Path) -> None:
    tensors = load_file(weights)
    assert len(tensors) > 300
    contents = Counter(value.tobytes() for value in tensors.values())
    assert contents.most_common(1)[0][1] == 1
    constant = [name for name, value in tensors.items() if value.size > 1 and value.std() == 0]
    assert constant == []
    assert all(value.dtype == np.float32 for value in tensors.values())
