"""Errors: three parts to read, and a status for each kind."""

from pathlib import Path

from modelkiln import errors
from modelkiln.errors import KilnError
from modelkiln.paths import REPOSITORY

KINDS = [one for one in vars(errors).values() if isinstance(one, type) and one is not KilnError
         and issubclass(one, KilnError)]  # fmt: skip


def test_the_parts_that_there_are_are_lines() -> None:
    assert str(KilnError("It broke.")) == "It broke."
    assert str(KilnError("It broke.", next="Mend it.")) == "It broke.\n  next: Mend it."
    assert str(KilnError("It broke.", "Old age.", "Mend it.")) == (
        "It broke.\n  why:  Old age.\n  next: Mend it."
    )


def test_every_kind_has_a_status_of_its_own_which_is_documented() -> None:
    codes = [one.exit_code for one in KINDS]
    assert len(KINDS) > 8
    assert len(set(codes)) == len(codes)
    page = Path(REPOSITORY, "docs", "errors.md").read_text(encoding="utf-8")
    assert [code for code in codes if f"| {code} " not in page] == []
