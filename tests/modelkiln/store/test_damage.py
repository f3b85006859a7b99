"""What is said of bytes that are not what a digest or an earlier build says."""

from pathlib import Path

import pytest

from modelkiln.errors import NotReproducible, StoreError
from modelkiln.store.damage import DamagedBlob, DifferentBytes
from modelkiln.store.records import Blob
from tests.modelkiln.store.making import make_record

ONE, TWO = Blob(sha256="1" * 64, bytes=3), Blob(sha256="2" * 64, bytes=5000)


@pytest.mark.parametrize(
    ("reason", "quarantined", "why"),
    [
        ("is missing", None, "changed it."),
        ("is damaged", None, "changed it; it is left where it was."),
        ("is damaged", Path("/q/a.0"), "changed it; it is now /q/a.0."),
    ],
)
def test_a_damaged_file_says_where_it_is_now(
    reason: str, quarantined: Path | None, why: str
) -> None:
    error = DamagedBlob(ONE, Path("/cas/a"), reason, quarantined)
    assert isinstance(error, StoreError)
    assert error.what == f"Damaged file in the store: /cas/a {reason}."
    assert error.why.endswith(why)
    assert (error.blob, error.quarantined) == (ONE, quarantined)


@pytest.mark.parametrize(("lost", "what"), [(True, "is lost"), (False, "stays in use")])
def test_both_results_of_a_step_are_shown_where_they_differ(lost: bool, what: str) -> None:
    first = make_record("s", {"same": ONE, "changed": ONE, "gone": TWO})
    second = make_record("s", {"same": ONE, "changed": TWO, "new": ONE})
    error = DifferentBytes(first, second, lambda sha256: Path("/cas") / sha256[:2], lost)
    assert isinstance(error, NotReproducible)
    assert error.what.splitlines()[1:] == [
        "  changed",
        "    first: /cas/11, 3 bytes",
        "    now:   /cas/22, 5.0 kB",
        "  gone",
        "    first: /cas/22, 5.0 kB",
        "    now:   no such output",
        "  new",
        "    first: no such output",
        "    now:   /cas/11, 3 bytes",
    ]
    assert what in error.next
    assert (error.first, error.second) == (first, second)
