"""Which runner a command takes, and that a build with nothing to do asks no engine."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelkiln.building.build import build
from modelkiln.building.kiln import Kiln
from modelkiln.building.prepare import make_plan, prepare, resolve_plan
from modelkiln.environments.base_images import load_base
from modelkiln.environments.provisioner import Provisioner
from modelkiln.errors import EnvironmentFailure, UsageError
from modelkiln.planning.keys import Status
from modelkiln.runners import choice
from modelkiln.runners.base import Offer, RunnerKind
from modelkiln.runners.choice import Choice, choose, contains_stages
from modelkiln.runners.processes import LocalRunner
from tests.modelkiln.containers.test_engine import answering

TARGET = "toy_a/words/toy-text"
MakeKiln = Callable[..., Kiln]


def choose_for(kiln: Kiln) -> Choice:
    return choose(kiln.provisioner, kiln.options.runner, ["bare"])


@pytest.fixture(autouse=True)
def pinned_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base of docker/pins.toml, whatever this machine builds on."""
    monkeypatch.delenv("MODELKILN_PINS", raising=False)


def test_local_asks_for_no_engine(make_kiln: MakeKiln, tmp_path: Path) -> None:
    assert choose_for(make_kiln(runner="local")) == Choice(name="local")


def test_auto_is_local_where_no_engine_answers_and_says_why(make_kiln: MakeKiln) -> None:
    choice = choose_for(make_kiln())
    assert choice.name == "local"
    assert "No container engine listens" in str(choice)


def test_auto_is_local_where_an_environment_has_no_dockerfile(
    make_kiln: MakeKiln, toy_copy: Path
) -> None:
    (toy_copy / "docker" / "bare" / "Dockerfile").unlink()
    choice = choose_for(make_kiln())
    assert (choice.name, choice.why) == ("local", "bare has no Dockerfile")


def test_docker_fails_where_an_environment_has_no_dockerfile(
    make_kiln: MakeKiln, toy_copy: Path
) -> None:
    (toy_copy / "docker" / "bare" / "Dockerfile").unlink()
    kiln = make_kiln(runner="docker")
    with pytest.raises(EnvironmentFailure, match="is not available as an image"):
        build(kiln, kiln.targets(TARGET))


def test_docker_fails_where_no_engine_answers(make_kiln: MakeKiln) -> None:
    kiln = make_kiln(runner="docker")
    with pytest.raises(EnvironmentFailure, match="No container engine"):
        build(kiln, kiln.targets(TARGET))


def test_an_unknown_runner_is_told(make_kiln: MakeKiln) -> None:
    with pytest.raises(UsageError, match="slurm"):
        make_kiln(runner="slurm")


@pytest.fixture
def sealed_records(make_kiln: MakeKiln) -> None:
    """A store with what a build in containers leaves: records under the keys of that runner."""
    local = make_kiln(runner="local")
    build(local, local.targets(TARGET))
    plan = make_plan(local, local.targets(TARGET))
    sealed = make_kiln(runner="docker")
    for step, one in resolve_plan(local, plan).items():
        assert one.record is not None
        known = resolve_plan(sealed, plan)[step]
        sealed.store.publish(replace(one.record, key=known.key, document=known.document))
        local.store.record_path(one.key).unlink()


def is_done(kiln: Kiln) -> bool:
    plan = make_plan(kiln, kiln.targets(TARGET))
    return all(one.status is Status.HIT for one in resolve_plan(kiln, plan).values())


def test_auto_takes_a_record_of_either_runner(sealed_records: None, make_kiln: MakeKiln) -> None:
    assert is_done(make_kiln(runner="docker"))
    assert is_done(make_kiln())
    assert not is_done(make_kiln(runner="local"))


def test_another_base_is_another_key(
    sealed_records: None, make_kiln: MakeKiln, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = tmp_path / "pins.toml"
    pin = load_base(variables={})
    pins.write_text(
        f'[bases.python]\nimage = "{pin.image}"\ntag = "{pin.tag}"\n'
        f'digest = "sha256:{"0" * 64}"\ninterpreter = "{pin.interpreter}"\n'
    )
    monkeypatch.setenv("MODELKILN_PINS", str(pins))
    assert not is_done(make_kiln(runner="docker"))
    pins.write_text(pins.read_text().replace("0" * 64, pin.digest.removeprefix("sha256:")))
    assert is_done(make_kiln(runner="docker"))


def test_a_build_with_nothing_to_do_asks_no_engine(
    make_kiln: MakeKiln, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = make_kiln(runner="local")
    build(local, local.targets(TARGET))
    with answering(tmp_path / "s") as engine:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/s")
        again = make_kiln()
        assert not build(again, again.targets(TARGET)).changed
        assert engine.asked == []
        fresh = make_kiln(tmp_path / "fresh", runner="auto")
        prepare(fresh, TARGET)
        assert engine.asked, "with something to do it is asked, so that the above means something"


def test_a_pickle_needs_no_trust_where_a_container_keeps_it(
    make_kiln: MakeKiln, tmp_path: Path
) -> None:
    path = tmp_path / "own.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("own/data.pkl", b"\x80\x02N.")
    for runner in ("local", "auto"):
        with pytest.raises(UsageError, match="--trust was not given"):
            make_kiln(weights=str(path), runner=runner).targets(TARGET)
    (target,) = make_kiln(weights=str(path), runner="docker").targets(TARGET)
    assert target.name.startswith("toy_a+")


def test_a_runner_is_a_module_and_a_name(
    make_kiln: MakeKiln, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that joins the table is taken by its name, by `auto`, and into the keys."""

    class Cellar(LocalRunner):
        name = "cellar"

    def identify(*_: object, asked: bool) -> dict[str, str]:
        return {"lock": "of the cellar"}

    def offer(provisioner: Provisioner, *_: object, asked: bool) -> Offer:
        return Offer(why="the door is open", make=lambda: Cellar(provisioner.python))

    cellar = RunnerKind(
        contains=True,
        identify=identify,  # type: ignore[arg-type]
        offer=offer,  # type: ignore[arg-type]
    )
    monkeypatch.setattr(choice, "RUNNERS", {**choice.RUNNERS, "cellar": cellar})
    for runner in ("cellar", "auto"):
        kiln = make_kiln(tmp_path / runner, runner=runner)
        prepared = prepare(kiln, TARGET)
        assert prepared.choice is not None
        assert prepared.choice.name == "cellar"
        built = build(kiln, prepared)
        assert {one.provenance["runner"] for one in built.records.values()} == {"cellar"}
        step = built.records["toy_a+random0/words/export"]
        assert step.document["environment"] == {"lock": "of the cellar"}
    assert contains_stages("cellar") and not contains_stages("auto")
    assert not is_done(make_kiln(tmp_path / "cellar", runner="local"))


def test_on_an_older_glibc_a_build_stops_before_its_first_step(
    make_kiln: MakeKiln, toy_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = toy_copy / "docker" / "bare" / "environment.toml"
    settings.write_text(f'glibc = "2.28"\n{settings.read_text()}')
    monkeypatch.setattr("modelkiln.environments.environment.glibc_version", lambda: "2.27")
    for runner in ("local", "auto"):
        kiln = make_kiln(runner=runner)
        with pytest.raises(EnvironmentFailure) as caught:
            build(kiln, kiln.targets(TARGET))
        assert "bare needs glibc 2.28 or later; this machine has glibc 2.27" in str(caught.value)
        assert not list((kiln.artifacts / "records").rglob("*.json"))
