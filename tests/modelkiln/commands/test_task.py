"""How tasks are made: which flags each of them has."""

import inspect
from typing import Any

import pytest
from invoke.tasks import Task

import tasks
from modelkiln.commands.task import OF_TARGETS

ALL: dict[str, "Task[Any]"] = {name: tasks.ns[name] for name in tasks.ns.task_names}
# These take targets, though they name none: all of them, or those of models.
BY_GLOB = {"build-all", "weights-check"}


@pytest.mark.parametrize("name", sorted(ALL))
def test_parameters_are_flags_of_tasks_that_take_targets(name: str) -> None:
    given = set(inspect.signature(ALL[name].body).parameters)
    takes = bool({"target", "targets"} & given) or name in BY_GLOB
    assert {"opset", "calib_method"} <= OF_TARGETS
    if takes:
        assert given >= OF_TARGETS
    elif name != "quantize":  # whose own arguments have some of these names
        assert not OF_TARGETS & given


def test_shared_flags_are_everywhere() -> None:
    for task in ALL.values():
        assert {"weights", "runner", "json", "dry_run"} <= set(
            inspect.signature(task.body).parameters
        )
