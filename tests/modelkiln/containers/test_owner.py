"""Which process a container belongs to, and the end of those whose process is gone."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import docker
import pytest

from modelkiln.containers.owner import LABEL, is_alive, remove_orphans, this_process
from modelkiln.errors import EnvironmentFailure
from tests.modelkiln.containers.fake_docker import Api, make_engine, refusal


def test_a_process_is_told_from_another_with_its_number() -> None:
    boot, space, pid, started = this_process().split(":")
    assert is_alive(this_process())
    assert not is_alive(f"{boot}:{space}:{pid}:{int(started) + 1}")
    assert not is_alive(f"another-boot:{space}:{pid}:{started}")
    assert is_alive(f"{boot}:1:{pid}:{started}"), "another process namespace is not ours to judge"
    assert not is_alive("")
    child = subprocess.Popen(["sleep", "60"])
    name = f"{boot}:{space}:{child.pid}:" + Path(f"/proc/{child.pid}/stat").read_text().split()[21]
    assert is_alive(name)
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(name), "a zombie counts as gone"
    child.wait()


def containers(*owners: str | None) -> list[dict[str, Any]]:
    return [
        {"Id": str(number), "Labels": None if owner is None else {LABEL: owner}}
        for number, owner in enumerate(owners)
    ]


def test_only_what_dead_processes_left_is_removed() -> None:
    boot, space, pid, started = this_process().split(":")
    dead = f"{boot}:{space}:{pid}:{int(started) + 1}"
    found = containers(this_process(), dead, f"{boot}:1:1:1", None, "another-boot:1:1:1")
    api = Api(containers=found, remove_container=None)
    assert remove_orphans(make_engine(api)) == 3
    removed = api.named("remove_container")
    assert [given[0] for given, _ in removed] == ["1", "3", "4"]
    assert all(words == {"force": True, "v": True} for _, words in removed)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (docker.errors.NotFound("gone"), False),
        (refusal(409), False),
        (refusal(500), True),
    ],
)
def test_what_another_command_removes_as_well_is_no_error(error: Exception, raised: bool) -> None:
    engine = make_engine(Api(containers=containers("another-boot:1:1:1"), remove_container=error))
    if raised:
        with pytest.raises(EnvironmentFailure):
            remove_orphans(engine)
    else:
        assert remove_orphans(engine) == 0
