"""pins.check: in a repository of two locks, each fault is found."""

from dataclasses import replace
from pathlib import Path

import pytest

from modelkiln.catalog.catalog import load_catalog
from modelkiln.commands.pins_checks import Fault, Scope, find_faults, lock_files
from modelkiln.paths import REPOSITORY


@pytest.fixture
def scope(root: Path) -> Scope:
    catalog = load_catalog([REPOSITORY / "catalog"])
    models = {
        name: replace(
            model,
            environment="work",
            upstream=replace(model.upstream, package="small", version="1.1"),
        )
        for name, model in catalog.models.items()
    }
    return Scope(
        root=root,
        catalog=replace(catalog, models=models),
        environment=lambda name: root / "docker" / name,
        variables={},
    )


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_this_repository_has_no_fault() -> None:
    catalog = load_catalog([REPOSITORY / "catalog"])
    scope = Scope(
        root=REPOSITORY,
        catalog=catalog,
        environment=lambda name: REPOSITORY / "docker" / name,
        variables={},
    )
    assert find_faults(scope) == []
    named = {path.relative_to(REPOSITORY).as_posix() for path in lock_files()}
    tracked = {"requirements/host.txt", "requirements/dev.txt", "docker/export/requirements.txt"}
    tracked |= {"docker/quantize/requirements.txt", "docker/rtx/requirements.txt"}
    assert tracked | {"bench/samexporter.txt"} < named


def test_a_lock_for_processors_may_take_the_place_of_the_other(scope: Scope) -> None:
    lock = scope.root / "requirements/host.txt"
    _edit(lock, "small==1.0", "small==1.0+cpu")
    assert find_faults(scope) == []


def test_nothing_is_at_fault_at_first(scope: Scope) -> None:
    assert find_faults(scope) == []


def test_comments_and_order_do_not_age_a_lock(scope: Scope) -> None:
    path = scope.root / "requirements/dev.in"
    path.write_text("# other words\n\nheavy-part  # here too\n-r host.in\n")
    assert find_faults(scope) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "words", "remedy"),
    [
        ("requirements/host.txt", "--hash", "# hash", "does not pin", "invoke pins.lock host"),
        ("requirements/host.txt", "==1.0", ">=1.0", "does not pin", "invoke pins.lock host"),
        ("bench/peer.txt", "--hash", "# hash", "does not pin", "git"),
        ("requirements/host.in", "1.0", "1.1", "out of date", "invoke pins.lock host"),
        ("requirements/host.in", "1.0", "1.1", "out of date", "invoke pins.lock dev"),
        ("requirements/host.txt", "# From", "# Of", "out of date", "invoke pins.lock host"),
        ("requirements/host.txt", "1.0", "1.1", "asks for 1.0", "invoke pins.lock host"),
        ("docker/work/requirements.in", ">=1.0", ">=0", "out of date", "invoke pins.lock work"),
        ("docker/work/environment.toml", "Heavy_Part", "", "out of date", "invoke pins.lock work"),
        (
            "docker/work/requirements.txt",
            "small==1.1",
            f"heavy-part==3.0 --hash=sha256:{'0' * 64}\nsmall==1.1",
            "environment.toml leaves out",
            "invoke pins.lock work",
        ),
        (
            "docker/work/environment.toml",
            '"small"',
            '"tall"',
            "seed tall is not in the lock",
            "invoke pins.lock work",
        ),
        ("docker/work/Dockerfile", "@sha256:", "@sha256:0", "the pin is", "ARG BASE_IMAGE="),
        ("docker/work/Dockerfile", "ARG BASE", "ARG base", "not named", "ARG BASE_IMAGE="),
        ("docker/work/environment.toml", "bytes", 'base = "no"\nbytes', "no base 'no'", "Name one"),
    ],
)
def test_a_fault_is_found(
    scope: Scope, file: str, old: str, new: str, words: str, remedy: str
) -> None:
    _edit(scope.root / file, old, new)
    found = find_faults(scope)
    assert [one for one in found if words in one.message and remedy in one.remedy], found


def test_a_missing_lock_is_found(scope: Scope) -> None:
    (scope.root / "requirements/host.txt").unlink()
    assert Fault(
        about="requirements/host.txt", message="It is missing.", remedy="invoke pins.lock host"
    ) in find_faults(scope)


def test_a_base_of_ones_own_without_a_digest_is_found(scope: Scope, tmp_path: Path) -> None:
    own = tmp_path / "pins.toml"
    own.write_text('[bases.mine]\nimage = "mine"\ntag = "1"\ndigest = "unknown"\n')
    (fault,) = find_faults(replace(scope, variables={"MODELKILN_PINS": str(own)}))
    assert fault.about == "bases" and "'unknown'" in fault.message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "unknown"),
        ("sha256", "AB" * 32),
        ("bytes", 0),
        ("url", "http://weights.example/a.pt"),
    ],
)
def test_a_checkpoint_that_is_not_pinned_is_found(
    scope: Scope, field: str, value: str | int
) -> None:
    name = "sam2.1_hiera_tiny"
    model = scope.catalog.models[name]
    checkpoint = replace(model.checkpoint, **{field: value})  # type: ignore[arg-type]
    models = {**scope.catalog.models, name: replace(model, checkpoint=checkpoint)}
    (fault,) = find_faults(replace(scope, catalog=replace(scope.catalog, models=models)))
    assert fault.about == f"checkpoint of {name}" and field in fault.message


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [("version", "1.0", "it is 1.1"), ("digest", "unknown", "'unknown'")],
)
def test_an_upstream_that_differs_from_the_lock_is_found(
    scope: Scope, field: str, value: str, words: str
) -> None:
    models = {
        name: replace(model, upstream=replace(model.upstream, **{field: value}))  # type: ignore[arg-type]
        for name, model in scope.catalog.models.items()
        if model.family == "sam2"
    }
    (fault,) = find_faults(replace(scope, catalog=replace(scope.catalog, models=models)))
    assert fault.about == "upstream of sam2" and words in fault.message
