"""The matrix of jobs for GitHub Actions."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelkiln.building import matrix
from modelkiln.building.kiln import Kiln
from modelkiln.building.matrix import Leg, make_legs, show_matrix
from modelkiln.building.prepare import make_plan
from modelkiln.catalog.weights import FileWeights
from modelkiln.errors import EnvironmentFailure, UsageError
from modelkiln.planning.graph import Plan, Step
from tests.modelkiln.lower_precision import INT8, MODEL, MakeKiln, own, see_gpu

ALL = "toy_*/*/*"
TOYS = 4


@pytest.fixture
def catalog(toy_copy: Path) -> Path:
    """A toy catalog whose environment has an image."""
    (toy_copy / "docker" / "bare" / "Dockerfile").write_text("FROM nothing\n")
    return toy_copy


def put_on_gpu(monkeypatch: pytest.MonkeyPatch, wanted: Callable[[Step], bool]) -> None:
    plan = make_plan

    def changed(kiln: Kiln, *given: Any) -> Plan:
        made = plan(kiln, *given)
        steps = {
            n: replace(one, key=("gpu",) if wanted(one) else ()) for n, one in made.steps.items()
        }
        return replace(made, steps=steps)

    monkeypatch.setattr("modelkiln.building.matrix.make_plan", changed)


def legs_of(kiln: Kiln, text: str = ALL) -> Mapping[str, Leg]:
    return {leg.name: leg for leg in make_legs(kiln, kiln.targets(text))}


def test_the_targets_of_a_model_stay_together(catalog: Path, make_kiln: MakeKiln) -> None:
    texts = "toy_a/words/toy-text,toy_b/words/toy-text,toy_a/words@upper/toy-text"
    legs = legs_of(make_kiln(), texts)
    assert list(legs) == ["toy_a+random0", "toy_b+random0"]
    names = "toy_a+random0/words/toy-text,toy_a+random0/words@upper/toy-text"
    assert set(legs["toy_a+random0"].targets.split(",")) == set(names.split(","))
    assert legs["toy_b+random0"].targets == "toy_b+random0/words/toy-text"


def test_what_needs_a_gpu_goes_where_one_is(
    catalog: Path, make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_gpu(monkeypatch, lambda step: step.stage == "verify" and "@upper" in step.id)
    legs = legs_of(make_kiln(), "toy_a/words/toy-text,toy_a/words@upper/toy-text")
    assert list(legs) == ["toy_a+random0", "toy_a+random0-gpu"]
    assert not legs["toy_a+random0"].gpu
    assert legs["toy_a+random0"].runs_on == ("ubuntu-24.04",)
    assert legs["toy_a+random0-gpu"].gpu
    assert legs["toy_a+random0-gpu"].runs_on == ("self-hosted", "linux", "x64", "gpu")
    assert legs["toy_a+random0-gpu"].targets == "toy_a+random0/words@upper/toy-text"


def test_a_leg_names_targets_that_select_the_same_again(catalog: Path, make_kiln: MakeKiln) -> None:
    """The job that builds a leg is told its targets alone: weights and variants are in them."""
    targets = make_kiln(weights="random:7", parameters={"case": "upper"}).targets("toy_a/*/*")
    leg = make_legs(make_kiln(weights="random:7"), targets)[0]
    again = make_kiln(weights="official").targets(leg.targets)
    assert [one.name for one in again] == [one.name for one in targets]
    assert "random7" in leg.targets and "upper" in leg.targets


def test_the_lines_are_what_github_takes(
    catalog: Path, make_kiln: MakeKiln, capsys: pytest.CaptureFixture[str]
) -> None:
    kiln = make_kiln()
    show_matrix(kiln, kiln.targets(ALL))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("=")[0] for line in lines] == ["matrix", "images"]
    told, images = (json.loads(line.partition("=")[2]) for line in lines)
    bare = kiln.provisioner.environment("bare")
    digest = bare.image_digest(kiln.provisioner.base(bare))
    image = {"name": "bare", "image": f"modelkiln/bare:{digest[:16]}", "digest": digest}
    assert images == [image]
    assert len(told["include"]) == TOYS
    for leg in told["include"]:
        assert leg["images"] == [image]
        assert leg["environments"] == ["bare"]
        assert isinstance(leg["runs_on"], list)


def test_it_is_the_same_each_time_and_whatever_is_built(
    catalog: Path, make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from modelkiln.building.build import build

    before = legs_of(make_kiln(), "toy_a/*/*")
    kiln = make_kiln(runner="local")
    build(kiln, kiln.targets("toy_a/*/*"))
    assert legs_of(make_kiln(), "toy_a/*/*") == before
    assert legs_of(make_kiln(artifacts=tmp_path / "other"), "toy_a/*/*") == before


def change_source(catalog: Path) -> None:
    # The sources of what makes the graphs are among its parameters as well; this one is not.
    path = catalog / "exporters" / "stages" / "reference.py"
    path.write_text(path.read_text() + "\n# changed\n")


def change_input(catalog: Path) -> None:
    (catalog / "pictures" / "toy.txt").write_text("another picture")


def change_image(catalog: Path) -> None:
    (catalog / "docker" / "bare" / "Dockerfile").write_text("FROM another\n")


def change_parameter(catalog: Path) -> None:
    path = catalog / "models" / "toy.toml"
    path.write_text(path.read_text().replace('behave = "well"', 'behave = "other"'))


def change_checkpoint(catalog: Path) -> None:
    path = catalog / "models" / "toy.toml"
    path.write_text(path.read_text().replace("1" * 64, "5" * 64))


@pytest.mark.parametrize(
    "change", [change_source, change_input, change_image, change_parameter, change_checkpoint]
)
def test_the_key_follows_what_the_steps_depend_on(
    catalog: Path, make_kiln: MakeKiln, change: Callable[[Path], None]
) -> None:
    (before,) = legs_of(make_kiln(weights="official"), "toy_a/*/*").values()
    change(catalog)
    (after,) = legs_of(make_kiln(weights="official"), "toy_a/*/*").values()
    assert after.key != before.key


def test_the_key_follows_the_weights(catalog: Path, make_kiln: MakeKiln) -> None:
    keys = {
        leg.key
        for weights in ("random:0", "random:1", "official")
        for leg in legs_of(make_kiln(weights=weights), "toy_a/*/*").values()
    }
    assert len(keys) == 3


def test_the_time_is_that_of_the_steps_and_no_more_than_a_job_may_take(
    catalog: Path, make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_gpu(monkeypatch, lambda step: "toy_b" in step.id)
    kiln = make_kiln()
    count = len(make_plan(kiln, kiln.targets("toy_a/words/toy-text")).steps)
    assert legs_of(kiln, "toy_a/words/toy-text")["toy_a+random0"].timeout == 30 + count
    stages = catalog / "stages.toml"
    stages.write_text(stages.read_text().replace("timeout_s = 60", "timeout_s = 20000"))
    legs = legs_of(make_kiln(), "toy_a/words/toy-text,toy_b/words/toy-text")
    assert legs["toy_a+random0"].timeout == 360
    assert legs["toy_b+random0-gpu"].timeout == 30 + -(-20000 * count // 60)


def test_more_jobs_than_github_allows_are_refused(
    catalog: Path, make_kiln: MakeKiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    kiln = make_kiln()
    monkeypatch.setattr(matrix, "MAX_LEGS", TOYS)
    assert len(make_legs(kiln, kiln.targets(ALL))) == TOYS
    monkeypatch.setattr(matrix, "MAX_LEGS", TOYS - 1)
    with pytest.raises(UsageError, match=f"make {TOYS} jobs"):
        make_legs(kiln, kiln.targets(ALL))


def test_the_bound_is_github_s() -> None:
    assert matrix.MAX_LEGS == 256


def test_weights_of_this_machine_are_refused(catalog: Path, make_kiln: MakeKiln) -> None:
    kiln = make_kiln()
    own = FileWeights(path="/here/own.pt", sha256="ab" * 32, format="pt", bytes=4)
    targets = [replace(one, weights=own) for one in kiln.targets("toy_a/words/toy-text")]
    with pytest.raises(UsageError, match="cannot be built by GitHub"):
        make_legs(kiln, targets)


def test_an_image_that_may_not_be_handed_on_is_built_by_each_job(
    catalog: Path, make_kiln: MakeKiln, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stays part of the key, and out of what one job hands to another."""
    before = legs_of(make_kiln())["toy_a+random0"]
    settings = catalog / "docker" / "bare" / "environment.toml"
    settings.write_text(f"redistributable = false\n{settings.read_text()}")
    kiln = make_kiln()
    after = legs_of(kiln)["toy_a+random0"]
    assert [one.name for one in before.images] == ["bare"] and after.images == ()
    assert after.environments == ("bare",)
    show_matrix(kiln, kiln.targets(ALL))
    assert capsys.readouterr().out.splitlines()[1] == "images=[]"
    (catalog / "docker" / "bare" / "Dockerfile").write_text("FROM another\n")
    assert legs_of(make_kiln())["toy_a+random0"].key != after.key


def test_an_environment_without_an_image_is_refused(toy_copy: Path, make_kiln: MakeKiln) -> None:
    (toy_copy / "docker" / "bare" / "Dockerfile").unlink(missing_ok=True)
    kiln = make_kiln()
    with pytest.raises(EnvironmentFailure, match="bare is not available as an image"):
        make_legs(kiln, kiln.targets("toy_a/words/toy-text"))


def test_a_name_can_name_an_artifact(catalog: Path, make_kiln: MakeKiln) -> None:
    path = catalog / "models" / "toy.toml"
    path.write_text(path.read_text().replace("[models.toy_a]", '[models."toy:a*"]'))
    kiln = make_kiln()
    assert list(legs_of(kiln, "toy:a[*]/*/*")) == ["toy_a_+random0"]


def test_a_leg_keeps_globs_and_refuses_pictures_of_this_machine(
    make_kiln: MakeKiln, own_pictures: Path
) -> None:
    kiln = see_gpu(make_kiln(weights="official"), False)
    (leg,) = make_legs(kiln, kiln.targets(f"{MODEL}/image/onnx-*8,{MODEL}/image/onnx-int8@fp16"))
    again = kiln.targets(leg.targets)
    by_name = {one.format_name: one.by_name for one in again}
    assert by_name == {"onnx-int8": False, "onnx-fp8": False, "onnx-int8@fp16": True}
    assert leg.environments == ("export", "quantize")
    kiln = see_gpu(make_kiln(parameters=own(own_pictures)), False)
    with pytest.raises(UsageError, match="cannot be built by GitHub") as caught:
        make_legs(kiln, kiln.targets(INT8))
    assert str(own_pictures) in caught.value.why
