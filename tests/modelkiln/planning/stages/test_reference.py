"""Stage reference: who shares what PyTorch computes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import make_plan
from modelkiln.errors import UsageError
from tests.modelkiln.catalog.shared import add_contract


def test_contracts_of_a_provider_share_their_reference(
    toy_copy: Path, make_kiln: Callable[..., Kiln]
) -> None:
    path = add_contract(toy_copy, "more", 'extends = "words"\nname = "more"\n')
    kiln = make_kiln()
    plan = make_plan(kiln, kiln.targets("toy_a/*/*"))
    assert len(plan.targets) == 2
    assert [one for one in plan.steps if "reference" in one] == ["toy_a+random0/toy/reference"]
    (toy_copy / "pictures" / "other.txt").write_text("another")
    path.write_text(path.read_text() + 'pictures = ["other.txt"]\n')
    kiln = make_kiln()
    assert make_plan(kiln, kiln.targets("toy_a/more/*")).targets
    with pytest.raises(UsageError, match="two different steps of toy_a"):
        make_plan(kiln, kiln.targets("toy_a/*/*"))
