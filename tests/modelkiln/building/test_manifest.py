"""The manifest of a published target: what it says, and what it is good for."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.building.manifest import (
    check_files,
    describe_format,
    describe_weights,
    find_manifest,
    read_status,
    target_folder,
)
from modelkiln.catalog.weights import FileWeights
from modelkiln.errors import UsageError, VerificationFailure
from tests.modelkiln.lower_precision import INT8, own
from tests.modelkiln.toy_builds import TARGET, folder

MakeKiln = Callable[..., Kiln]


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


def test_a_target_that_is_not_there_is_told_with_the_command(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    (target,) = kiln.targets(TARGET)
    assert target_folder(kiln, target) == kiln.artifacts / "out" / target.name
    with pytest.raises(UsageError, match="has not been built") as caught:
        find_manifest(kiln, target)
    assert caught.value.next == f"invoke build {target.name}"


@pytest.mark.parametrize("text", ["{", "[]", "3", "{}", '{"files": 3}'])
def test_a_damaged_manifest_is_told(make_kiln: MakeKiln, built: Path, text: str) -> None:
    kiln = make_kiln()
    (target,) = kiln.targets(TARGET)
    path = folder(built) / "manifest.json"
    path.chmod(0o644)
    path.write_text(text)
    with pytest.raises(UsageError, match=r"manifest\.json is damaged"):
        find_manifest(kiln, target)


def test_a_word_alone_makes_nothing_verified() -> None:
    assert read_status({"status": "verified", "verification": None}) == "verified"
    # Earlier versions wrote no word, and published what was verified alone.
    assert read_status({"verification": "words agree"}) == "verified"
    for manifest in ({"status": "verified"}, {"status": "verified", "built": {}}, {}):
        assert read_status(manifest) == "built"
    assert read_status({"status": "built", "verification": "forged"}) == "built"


@pytest.mark.parametrize("how", ["edit", "remove", "folder"])
def test_a_file_that_is_not_what_the_manifest_says_is_named(
    make_kiln: MakeKiln, built: Path, how: str
) -> None:
    kiln = make_kiln()
    (target,) = kiln.targets(TARGET)
    manifest = find_manifest(kiln, target)
    check_files(kiln, target, manifest)
    path = folder(built) / "words.txt"
    text = path.read_text()
    path.unlink()
    if how == "edit":
        path.write_text(text.swapcase())
    elif how == "folder":
        path.mkdir()
    with pytest.raises(VerificationFailure, match=r"differ from the manifest: words\.txt\."):
        check_files(kiln, target, manifest)


def test_weights_are_told_by_where_they_come_from(make_kiln: MakeKiln) -> None:
    (target,) = make_kiln(weights="official").targets(TARGET)
    assert describe_weights(target) == {
        "kind": "official", "url": "http://127.0.0.1:1/toy_a.pt", "sha256": "1" * 64, "bytes": 4,
    }  # fmt: skip
    own = FileWeights(path="/own/mine.pt", sha256="ab" * 32, format="pt", bytes=3)
    told = describe_weights(replace(target, weights=own))
    assert told == {"kind": "file", "sha256": "ab" * 32, "bytes": 3, "format": "pt"}


def test_pictures_of_one_s_own_are_told_by_their_digest(
    make_kiln: MakeKiln, own_pictures: Path
) -> None:
    kiln = make_kiln(parameters=own(own_pictures))
    (target,) = kiln.targets(INT8)
    told = describe_format(target)
    assert target.pictures is not None
    assert told["image_dir"] == f"sha256:{target.pictures.digest}"
    assert told["calib_size"] == 2
    # What enters no key is not told, nor is what says nothing.
    assert "image_file_extension" not in told and "" not in told.values()
    assert str(own_pictures) not in str(told)
