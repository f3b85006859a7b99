"""Which runner a command takes, and that a build with nothing to do asks no engine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from modelkiln.build import build
from modelkiln.errors import EnvironmentFailure, UsageError
from modelkiln.keys import Status
from modelkiln.kiln import Kiln
from modelkiln.runners import RunnerName
from tests.modelkiln.test_engine import answering

TARGET = "toy_a/words/toy-text"
MakeKiln = Callable[..., Kiln]


def test_local_asks_for_no_engine(make_kiln: MakeKiln, tmp_path: Path) -> None:
    assert make_kiln(runner="local").choose_runner(["bare"]).name is RunnerName.LOCAL


def test_auto_is_local_where_no_engine_answers_and_says_why(make_kiln: MakeKiln) -> None:
    choice = make_kiln().choose_runner(["bare"])
    assert choice.name is RunnerName.LOCAL
    assert "No container engine listens" in str(choice)


def test_auto_is_local_where_an_environment_has_no_dockerfile(
    make_kiln: MakeKiln, toy_copy: Path
) -> None:
    (toy_copy / "docker" / "bare" / "Dockerfile").unlink()
    choice = make_kiln().choose_runner(["bare"])
    assert (choice.name, choice.why) == (RunnerName.LOCAL, "bare has no Dockerfile")


def test_docker_fails_where_an_environment_has_no_dockerfile(
    make_kiln: MakeKiln, toy_copy: Path
) -> None:
    (toy_copy / "docker" / "bare" / "Dockerfile").unlink()
    kiln = make_kiln(runner="docker")
    with pytest.raises(EnvironmentFailure, match="cannot be had as an image"):
        build(kiln, kiln.targets(TARGET))


def test_docker_fails_where_no_engine_answers(make_kiln: MakeKiln) -> None:
    kiln = make_kiln(runner="docker")
    with pytest.raises(EnvironmentFailure, match="No container engine"):
        build(kiln, kiln.targets(TARGET))


def test_an_unknown_runner_is_told(make_kiln: MakeKiln) -> None:
    with pytest.raises(UsageError, match="slurm"):
        make_kiln(runner="slurm")


def test_auto_takes_a_record_of_either_runner(make_kiln: MakeKiln) -> None:
    """A record that a container made is found by auto and by docker, and not by local."""
    local = make_kiln(runner="local")
    build(local, local.targets(TARGET))
    sealed = make_kiln(runner="docker")
    plan = sealed.plan(sealed.targets(TARGET))
    assert {one.status for one in sealed.resolve(plan).values()} == {Status.RUN, Status.PENDING}
    # The same bytes under the Docker runner's keys, in another store.
    for step, one in local.resolve(plan).items():
        assert one.record is not None
        resolved = sealed.resolve(plan)[step]
        for blob in one.record.outputs.values():
            assert local.store.has(blob)
        from dataclasses import replace

        sealed.store.publish(replace(one.record, key=resolved.key, document=resolved.document))
    assert all(one.status is Status.HIT for one in sealed.resolve(plan).values())
    for path in local.store.records.rglob("*.json"):
        record = local.store.record(path.stem)
        assert record is not None
        if (
            "lock" in record.document["environment"]
            and "base" not in record.document["environment"]
        ):  # type: ignore[operator]
            path.unlink()
    assert all(one.status is Status.HIT for one in make_kiln().resolve(plan).values())
    assert all(
        one.status is not Status.HIT for one in make_kiln(runner="local").resolve(plan).values()
    )


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
        fresh.resolve(fresh.plan(fresh.targets(TARGET)))
        assert engine.asked, "with something to do it is asked, so that the above means something"
