"""A kiln: what a command works with, read when it is asked for."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.building.options import Options
from modelkiln.catalog.pictures import Pictures, choose_pictures
from modelkiln.catalog.weights import FileWeights, OfficialWeights, RandomWeights
from modelkiln.errors import UsageError

MakeKiln = Callable[..., Kiln]
TARGET = "toy_a/words/toy-text"


def test_opening_one_reads_and_makes_nothing(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELKILN_CATALOG", "/nowhere")
    kiln = Kiln()
    assert kiln.artifacts == toy and not toy.exists()
    with pytest.raises(UsageError, match="no catalog folder"):
        _ = kiln.catalog
    with pytest.raises(UsageError, match="slurm"):
        Kiln(Options(runner="slurm"))


def test_weights_are_a_word_or_a_file(make_kiln: MakeKiln, tmp_path: Path) -> None:
    assert make_kiln(weights="official").weights == OfficialWeights()
    assert make_kiln(weights="random:7").weights == RandomWeights(seed=7)
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    own = tmp_path / "own.safetensors"
    own.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    found = make_kiln(weights=str(own)).weights
    assert isinstance(found, FileWeights)
    assert (found.path, found.format, found.bytes) == (str(own), "safetensors", len(header) + 12)


def test_a_pickle_is_opened_on_trust_alone(make_kiln: MakeKiln, tmp_path: Path) -> None:
    own = tmp_path / "own.pt"
    own.write_bytes(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03.")
    with pytest.raises(UsageError, match="trust"):
        _ = make_kiln(weights=str(own)).weights
    found = make_kiln(weights=str(own), trust=True).weights
    assert isinstance(found, FileWeights) and found.format == "pt"


def test_targets_may_be_a_text_or_a_list(make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    names = [one.name for one in kiln.targets(f"{TARGET},toy_b/*/*")]
    assert names == ["toy_a+random0/words/toy-text", "toy_b+random0/words/toy-text"]
    assert kiln.targets([TARGET, "toy_b/*/*"]) == kiln.targets(f"{TARGET},toy_b/*/*")


def test_a_parameter_of_no_contract_or_format_is_told(make_kiln: MakeKiln) -> None:
    with pytest.raises(UsageError, match="has a parameter 'colour'") as caught:
        make_kiln(parameters={"colour": "red"}).targets(TARGET)
    assert "case" in caught.value.why and "opset" in caught.value.why
    kiln = make_kiln(parameters={"case": "upper"})
    assert kiln.targets(TARGET)[0].name == "toy_a+random0/words@upper/toy-text"


def test_a_folder_of_pictures_is_gone_through_once(
    make_kiln: MakeKiln, own_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def choose(folder: Path, extension: str, count: int, digest: object) -> Pictures:
        calls.append(count)
        return choose_pictures(folder, extension, count, digest)  # type: ignore[arg-type]

    monkeypatch.setattr("modelkiln.building.kiln.choose_pictures", choose)
    kiln = make_kiln()
    assert kiln.choose_pictures(own_pictures, "png", 2) is kiln.choose_pictures(
        own_pictures, "png", 2
    )
    kiln.choose_pictures(own_pictures, "png", 1)
    assert calls == [2, 1]


def test_what_was_learned_is_kept_and_written_only_where_it_changed(
    make_kiln: MakeKiln, toy: Path
) -> None:
    kiln = make_kiln()
    kiln.sources.digests(["exporters.stages.ingest", "exporters.toy.behaviour"])
    kiln.save_caches()
    path = toy / "cache" / "imports.json"
    assert json.loads(path.read_text()) == make_kiln().sources.imports != {}
    before = path.stat()
    make_kiln().save_caches()
    assert path.stat().st_ino == before.st_ino


@pytest.mark.parametrize("text", ["", "[", "3", "[3]"])
def test_a_damaged_cache_is_an_empty_one(make_kiln: MakeKiln, toy: Path, text: str) -> None:
    (toy / "cache").mkdir(parents=True)
    (toy / "cache" / "imports.json").write_text(text)
    assert make_kiln().sources.imports == {}


def test_a_cache_that_cannot_be_written_stops_nothing(make_kiln: MakeKiln, toy: Path) -> None:
    toy.mkdir()
    (toy / "cache").write_text("in the way")
    make_kiln().save_caches()
    assert (toy / "cache").read_text() == "in the way"
