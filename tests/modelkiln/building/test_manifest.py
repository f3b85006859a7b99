"""The manifest of a published target: what it says, and what it is good for."""

import json
import os
from pathlib import Path

from tests.modelkiln.toy_builds import folder


def test_the_manifest_names_everything_and_no_place(built: Path, shared_room: Path) -> None:
    text = (folder(built) / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["weights"] == {
        "kind": "random",
        "seed": 0,
        "warning": "random weights: this mask means nothing",
    }
    assert set(manifest["steps"]) == {
        "toy_a+random0/ingest",
        "toy_a+random0/words/export",
        "toy_a+random0/words/convert",
        "toy_a+random0/toy/reference",
        "toy_a+random0/words/toy-text/verify",
    }
    assert str(built) not in text and str(shared_room) not in text
    assert os.uname().nodename not in text.replace("localhost", "")
