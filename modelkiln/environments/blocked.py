"""Packages that an index refuses or has not got, told from what uv or pip says of it.

A company's mirror often holds back single packages: the network is fine, and looking at it would
only mislead.
"""

import re
from collections.abc import Sequence

from modelkiln.environments.lockfile import Locked, normalize
from modelkiln.environments.wheels import VARIABLE
from modelkiln.errors import EnvironmentFailure

# The words of uv and of pip, white space made one. The first kind says that the index has not got
# it; it is also said of one that answers 403 for the package's page.
_NOT_THERE = (
    r"Because (?P<name>[\w.-]+) was not found in the package registry",
    r"Because there is no version of (?P<name>[\w.-]+)==",
    r"No matching distribution found for (?P<name>[\w.-]+)",
)
_REFUSED = (
    r"Failed to download `(?P<name>[\w.-]+)==",
    r"Could not install requirement (?P<name>[\w.-]+)==",
)
_STATUS = re.compile(
    r"(?:returned an? |status client error \(|HTTP error )"
    r"(?P<code>40[1-4]|410|451)(?: Client Error:)? (?P<text>[A-Z][A-Za-z ]*[a-z])"
)


def find_blocked(
    said: str, packages: Sequence[Locked], *, index: str, log: str
) -> EnvironmentFailure | None:
    """Return the error for a package that the index refuses or has not got; None where what was
    said means something else.

    Args:
        said: The last words of uv or pip.
        packages: What it was to fetch.
        index: The variable that tells it of another index.
        log: A sentence that says where all of its words are.
    """
    text = " ".join(said.split())
    status = _STATUS.search(text)
    kinds = (*_NOT_THERE, *_REFUSED) if status else _NOT_THERE
    names = {normalize(one["name"]) for kind in kinds for one in re.finditer(kind, text)}
    if not names:
        return None
    versions = {one.name: one.version for one in packages}
    named = ", ".join(f"{one} {versions[one]}" if one in versions else one for one in sorted(names))
    answer = f"answers {status['code']} {status['text']}" if status else "has not got it"
    return EnvironmentFailure(
        f"The package index does not give {named}.",
        f"It {answer}. A company's mirror may block single packages, such as NVIDIA's.",
        f"Ask for it to be let through; or let {index} name an index that has it; or fetch its "
        f"file elsewhere, and let {VARIABLE} name the folder. {log}",
    )
