"""For tests of stages: the steps of targets."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from modelkiln.building.prepare import make_plan
from modelkiln.planning.graph import Step
from tests.modelkiln.lower_precision import MakeKiln, see_gpu


@pytest.fixture
def steps(make_kiln: MakeKiln) -> Callable[..., Mapping[str, Step]]:
    """The steps of targets, on a machine without a GPU unless told otherwise."""

    def plan(*texts: str, gpu: bool = False, **options: Any) -> Mapping[str, Step]:
        kiln = see_gpu(make_kiln(**options), gpu)
        return make_plan(kiln, kiln.targets(texts)).steps

    return plan
