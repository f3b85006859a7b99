"""How tasks are made: their flags, their dry runs, and what they say of what is wrong."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from invoke.tasks import Task

import tasks
from modelkiln.commands.task import OF_TARGETS
from tests.modelkiln.toy_builds import RANDOM, TARGET, Invoke

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


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("build", "toy_c/words/toy-text"), 2, "toy_a"),
        (("build", "nothing*/words/toy-text"), 2, "There is no model"),
        (("build", TARGET, "--set", "case=middle"), 2, "lower, upper"),
        (("build", TARGET, "--set", "colour=red"), 2, "No contract or format has a parameter"),
        (("build", TARGET, "--runner", "docker"), 4, "No container engine listens"),
        (("build", TARGET, "--runner", "slurm"), 2, "auto, local and docker"),
        (("build", TARGET, "--weights", "/nowhere/model.pt"), 2, "/nowhere/model.pt"),
        (("build", TARGET, "--weights", "random:x"), 2, "seed"),
        (
            ("predict", TARGET, "cat.jpg"),
            2,
            "is for invoke track; made for invoke predict: features",
        ),
        (("track", TARGET, "cat.mp4", "--box", "0,0,9,9"), 2, "There is no video"),
        (("inspect", f"{TARGET}", *RANDOM), 2, "has not been built"),
        (("verify", f"{TARGET}", *RANDOM), 2, "has not been built"),
        (("report", f"{TARGET}", *RANDOM), 2, "has not been built"),
        (("inspect", "toy_*/words/toy-text", *RANDOM), 2, "None of the 4 targets"),
        (("bench.engine", "--target", TARGET, *RANDOM), 2, "has no engines"),
        (("reproduce", "toy_*/words/toy-text", *RANDOM), 2, "names 4 targets"),
        (("weights-check", *RANDOM), 2, "real weights"),
    ],
)
def test_wrong_commands_say_what_why_and_next(
    invoke: Invoke, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = invoke(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "why:" in done.stderr and "next:" in done.stderr


def test_dry_runs_and_json_everywhere(invoke: Invoke, toy: Path) -> None:
    for task in ("verify", "reproduce", "report", "predict", "track"):
        picture = ["cat.jpg"] if task in ("predict", "track") else []
        done = invoke(task, TARGET, *picture, *RANDOM, "--dry-run", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["would_use"]["targets"] == ["toy_a+random0/words/toy-text"]
    for task in ("quickstart", "weights-check", "test", "lint", "bench.engine", "doctor"):
        assert invoke(task, "--dry-run").returncode == 0
    assert not (toy / "records").exists()


def test_the_list_of_tasks_is_a_manual(command_line: Invoke) -> None:
    listed = command_line("--list").stdout
    for name in (
        "build", "build-all", "plan", "verify", "predict", "inspect", "doctor", "weights-check",
        "store.verify", "store.gc", "env.list", "env.prune", "bench.export", "bench.null",
        "bench.engine", "reproduce", "quickstart", "test", "targets", "report", "track",
    ):  # fmt: skip
        assert f"  {name} " in listed
    shared = command_line("--help", "build").stdout
    for flag in (
        "weights", "runner", "jobs", "keep-going", "dry-run", "offline", "json", "opset",
        "simplifier", "trust", "mirror",
    ):  # fmt: skip
        assert f"--{flag}" in shared
