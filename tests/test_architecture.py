"""docs/architecture.svg is what its script draws; pages about the code name what is there."""

import re
from pathlib import Path

import pytest

from docs.draw_architecture import PICTURE, ROOT, draw, read_arrows, reduce_arrows
from modelkiln.building.session import STEPS

PAGES = ("architecture.md", "adding.md")
# A path in backticks: with a slash, and in small letters, for what is large is a place-holder.
NAMED = re.compile(r"`([a-z_.0-9-]*/[a-z_./0-9-]*)`")
HOMES = ("", "modelkiln", "docs", "catalog", "tests", "modelkiln/planning", "modelkiln/building")


def test_the_picture_is_drawn_from_the_imports_as_they_are() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(), (
        "docs/architecture.svg is out of date; run: .venv/bin/python docs/draw_architecture.py"
    )


def test_it_shows_the_steps_of_a_build() -> None:
    drawn = " ".join(re.findall(r">([^<]+)</text>", draw()))
    assert ", then ".join(one.__name__.replace("_", " ") for one in STEPS) in drawn


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    arrows = {"a": {"b", "c"}, "b": {"c"}, "c": set[str]()}
    assert reduce_arrows(arrows) == {"a": ["b"], "b": ["c"], "c": []}
    assert "util" in read_arrows()["commands"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_files_that_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    named = sorted(set(NAMED.findall(text)))
    assert len(named) > 10
    assert [one for one in named if not any(Path(ROOT, home, one).exists() for home in HOMES)] == []
