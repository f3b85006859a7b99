"""How far a build is, from the words of either builder."""

import pytest

from modelkiln.containers.progress import BuildProgress


def tell(*lines: str) -> list[tuple[float | None, str]]:
    told: list[tuple[float | None, str]] = []
    progress = BuildProgress(lambda share, text: told.append((share, text)))
    for line in lines:
        progress.tell(line)
    return told


@pytest.mark.parametrize(
    ("line", "share", "text"),
    [
        ("Step 3/12 : RUN  pip   install", 2 / 12, "RUN pip install"),
        ("STEP 1/4: FROM base", 0.0, "FROM base"),
        ("#8 [build 3/5] RUN pip install", None, "RUN pip install"),
        ("#8 [3/5] COPY a b", None, "COPY a b"),
        ("#8 12.3 Building wheel for sam2 (setup.py)", None, "Building wheel for sam2"),
        ("Installing collected packages: torch", None, "Installing collected packages"),
        ("anything else", None, "sending the packages to the builder"),
        ("", None, "sending the packages to the builder"),
    ],
)
def test_a_step_is_told(line: str, share: float | None, text: str) -> None:
    assert tell(line) == [(share, text)]


def test_what_was_known_stays_and_long_words_are_cut() -> None:
    told = tell(f"Step 2/2 : RUN {'x' * 100}", "noise")
    assert told[0] == told[1]
    share, text = told[0]
    assert share == 0.5 and len(text) == 70 and text.endswith("xxx...")
