"""For tests of the store: one that is new, and that nothing should be wrong with."""

from pathlib import Path

import pytest

from modelkiln.store.store import Store
from tests.modelkiln.store.damaging import (
    Warned,
)
from tests.modelkiln.store.making import refuse_warning


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artifacts", warn=refuse_warning)


@pytest.fixture
def warned() -> Warned:
    return Warned()
