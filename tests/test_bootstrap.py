"""requirements/bootstrap.sh and the Makefile, with a stand-in for Python.

The stand-in makes a .venv whose python only writes down what pip was asked.
"""

import os
import shutil
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelkiln.environments.lockfile import read_lock
from modelkiln.paths import REPOSITORY

PYTHON = """#!/bin/sh
case "$*" in
*sys.implementation*) echo "cpython ${FAKE_VERSION:-3.11.2} $0" ;;
*ensurepip*) [ -z "${FAKE_NO_ENSUREPIP:-}" ] ;;
"-m venv .venv")
    mkdir -p .venv/bin
    cat >.venv/bin/python <<'END'
#!/bin/sh
echo "$@" >>pip.log
[ -z "${PIP_USER:-}${PIP_TARGET:-}" ] || exit 9
[ -z "${FAKE_HANG:-}" ] || sleep 30
exit "${FAKE_PIP:-0}"
END
    chmod +x .venv/bin/python
    ;;
*) exit 99 ;;
esac
"""


@dataclass
class Clone:
    """A copy of the front door, with programs that shadow the system's."""

    root: Path

    def shadow(self, name: str, text: str) -> None:
        """Put a program first on the PATH."""
        path = self.root / "shadow" / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone, the bootstrap if none is named."""
        return subprocess.run(
            command or ("sh", "requirements/bootstrap.sh"),
            cwd=self.root,
            env=self.environ(**variables),
            capture_output=True,
            text=True,
            timeout=30,
        )

    def environ(self, **variables: str) -> dict[str, str]:
        """The variables of a run."""
        path = f"{self.root}/shadow:/usr/local/bin:/usr/bin:/bin"
        return {"PATH": path, "HOME": str(self.root), **variables}

    @property
    def pip_runs(self) -> list[str]:
        """What pip was asked to install, run by run."""
        return [one for one in self.pip_log if " install " in one]

    @property
    def pip_log(self) -> list[str]:
        """What pip was asked, run by run."""
        log = self.root / "pip.log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def ready(self) -> bool:
        """Whether the stamp says that .venv is whole."""
        stamp = self.root / ".venv" / "modelkiln.stamp"
        return stamp.exists() and stamp.read_text().startswith("ready ")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(root=tmp_path / "clone")
    (made.root / "shadow").mkdir(parents=True)
    (made.root / "requirements").mkdir()
    for name in ("bootstrap.sh", "host.txt"):
        shutil.copy(REPOSITORY / "requirements" / name, made.root / "requirements")
    shutil.copy(REPOSITORY / "Makefile", made.root)
    for name in ("python3.11", "python3"):
        made.shadow(name, PYTHON)
    return made


def check_three_parts(done: subprocess.CompletedProcess[str], status: int = 4) -> None:
    lines = done.stderr.splitlines()
    assert done.returncode == status, done
    assert [line[:8] for line in lines[-2:]] == ["  why:  ", "  next: "]
    assert len(lines) == 3


def test_first_run_says_what_it_does_and_the_second_nothing(clone: Clone) -> None:
    done = clone.run()
    assert done.returncode == 0, done
    said = done.stdout.splitlines()
    assert all(line.startswith("modelkiln: ") for line in said)
    assert "making .venv with Python 3.11.2" in said[0]
    count = len(read_lock(REPOSITORY / "requirements" / "host.txt"))
    assert f"downloading {count} packages of requirements/host.txt" in said[1]
    assert f"installing {count} packages" in said[2]
    assert ".venv is ready" in said[3]
    assert clone.ready
    assert "--require-hashes" in clone.pip_runs[0]
    assert "--no-deps" in clone.pip_runs[0]
    again = clone.run()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert len(clone.pip_runs) == 1


def test_another_clone_downloads_nothing(clone: Clone, tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    assert clone.run(MODELKILN_CACHE=cache).returncode == 0
    assert [" download " in one for one in clone.pip_log] == [True, False]
    assert "--no-index" in clone.pip_log[1]
    other = Clone(root=tmp_path / "other")
    shutil.copytree(clone.root, other.root, ignore=shutil.ignore_patterns(".venv", "pip.log"))
    assert other.run(MODELKILN_CACHE=cache).returncode == 0
    assert [" download " in one for one in other.pip_log] == [False]


def test_an_unfinished_download_is_not_used(clone: Clone, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert clone.run(MODELKILN_CACHE=str(cache), FAKE_PIP="1").returncode == 4
    assert list((cache / "wheels").iterdir()) == []
    assert clone.run(MODELKILN_CACHE=str(cache)).returncode == 0
    assert len(list((cache / "wheels").iterdir())) == 1


def test_changed_lock_makes_it_anew(clone: Clone) -> None:
    clone.run()
    (clone.root / ".venv" / "left-over").touch()
    with (clone.root / "requirements" / "host.txt").open("a") as lock:
        lock.write("# changed\n")
    assert clone.run().returncode == 0
    assert len(clone.pip_runs) == 2
    assert not (clone.root / ".venv" / "left-over").exists()


def test_touched_lock_does_nothing(clone: Clone) -> None:
    clone.run()
    (clone.root / "requirements" / "host.txt").touch()
    clone.run()
    assert len(clone.pip_runs) == 1


def test_moved_clone_makes_it_anew(clone: Clone) -> None:
    clone.run()
    moved = Clone(root=clone.root.rename(clone.root.with_name("moved clone")))
    assert moved.run().returncode == 0
    assert len(moved.pip_runs) == 2


def test_removed_interpreter_makes_it_anew(clone: Clone) -> None:
    clone.run()
    python = clone.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    assert clone.run().returncode == 0
    assert len(clone.pip_runs) == 2


def test_no_ensurepip_prints_the_apt_line(clone: Clone) -> None:
    done = clone.run(FAKE_NO_ENSUREPIP="1")
    check_three_parts(done)
    assert done.stderr.splitlines()[-1] == "  next: apt-get install python3-venv"
    assert not (clone.root / ".venv").exists()


def test_other_python_is_refused(clone: Clone) -> None:
    done = clone.run(FAKE_VERSION="3.12.1")
    check_three_parts(done)
    assert "Python 3.11 was not found" in done.stderr
    assert "python3 is cpython 3.12.1" in done.stderr
    assert not (clone.root / ".venv").exists()


def test_second_name_is_tried(clone: Clone) -> None:
    clone.shadow("python3.11", "#!/bin/sh\necho 'version not installed' >&2\nexit 127\n")
    assert clone.run().returncode == 0
    assert clone.ready


def test_python_may_be_named(clone: Clone) -> None:
    clone.shadow("python3.11", "#!/bin/sh\nexit 1\n")
    clone.shadow("python3", "#!/bin/sh\nexit 1\n")
    clone.shadow("mine", PYTHON)
    done = clone.run(PYTHON="mine")
    assert done.returncode == 0
    assert "shadow/mine" in done.stdout


@pytest.mark.parametrize(("system", "machine"), [("Linux", "aarch64"), ("Darwin", "x86_64")])
def test_other_platform_is_refused_at_once(clone: Clone, system: str, machine: str) -> None:
    clone.shadow("uname", f'#!/bin/sh\n[ "$1" = -s ] && echo {system} || echo {machine}\n')
    done = clone.run()
    check_three_parts(done)
    assert f"{system} {machine}" in done.stderr
    assert not (clone.root / ".venv").exists()


def test_other_c_library_is_refused(clone: Clone) -> None:
    clone.shadow("getconf", "#!/bin/sh\nexit 1\n")
    done = clone.run()
    check_three_parts(done)
    assert "GNU C library" in done.stderr


def test_failing_pip_leaves_nothing(clone: Clone) -> None:
    done = clone.run(FAKE_PIP="1")
    assert done.returncode == 4
    assert "  next: Check the network" in done.stderr
    assert not (clone.root / ".venv").exists()
    assert clone.run().returncode == 0
    assert clone.ready


@pytest.mark.parametrize(
    ("number", "status", "left"),
    [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, False), (signal.SIGKILL, -9, True)],
)
def test_interrupted_bootstrap_is_never_taken_for_whole(
    clone: Clone, number: signal.Signals, status: int, left: bool
) -> None:
    process = subprocess.Popen(
        ["sh", "requirements/bootstrap.sh"],
        cwd=clone.root,
        env=clone.environ(FAKE_HANG="1"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    pause = threading.Event()
    for _ in range(500):
        if clone.pip_log:
            break
        pause.wait(0.01)
    os.killpg(process.pid, number)
    assert process.wait(10) == status
    assert (clone.root / ".venv").exists() == left
    assert not clone.ready
    assert clone.run().returncode == 0
    assert clone.ready


def test_two_at_once_install_once(clone: Clone) -> None:
    command = ["sh", "requirements/bootstrap.sh"]
    started = [
        subprocess.Popen(
            command, cwd=clone.root, env=clone.environ(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in started:
        process.communicate(timeout=20)
    assert [process.returncode for process in started] == [0] * 4
    assert len(clone.pip_runs) == 1


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_venv_of_somebody_else_stays(clone: Clone, kind: str) -> None:
    other = clone.root / ("other" if kind == "link" else ".venv")
    other.mkdir()
    (other / "pyvenv.cfg").touch()
    if kind == "link":
        (clone.root / ".venv").symlink_to(other)
    done = clone.run()
    check_three_parts(done)
    assert "not modelkiln's" in done.stderr
    assert (other / "pyvenv.cfg").exists()


def test_variables_that_lead_pip_astray_are_dropped(clone: Clone) -> None:
    assert clone.run(PIP_USER="1", PIP_TARGET="/elsewhere").returncode == 0


def test_make_lists_every_target(clone: Clone) -> None:
    done = clone.run("make")
    assert done.returncode == 0, done
    for name in ("quickstart", "test", "lint", "clean", "dinov2-onnx"):
        assert f"  make {name} " in done.stdout
    for format_ in ("onnx", "int8", "fp8", "trt"):
        assert f"  make sam2-{format_} " in done.stdout
    assert not (clone.root / ".venv").exists()


@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("quickstart", "quickstart"),
        ("test", "test"),
        ("sam2-onnx", "build sam2*/image/onnx-fp32,sam2*/treedect/onnx-fp32 --jobs 1"),
        ("sam2-trt", "build sam2*/*/rtx-fp16,sam2*/*/trt-* --jobs 1"),
        ("sam2-tracker", "build sam2*/tracker*/onnx-fp32"),
    ],
)
def test_make_sets_up_and_hands_over(clone: Clone, target: str, command: str) -> None:
    flags = ["FLAGS=--jobs 1"] if "--jobs" in command else []
    clone.run()
    invoke = clone.root / ".venv" / "bin" / "invoke"
    invoke.write_text('#!/bin/sh\necho "invoke $*"\n')
    invoke.chmod(0o755)
    done = clone.run("make", target, *flags)
    assert (done.returncode, done.stdout.strip()) == (0, f"invoke {command}"), done


def test_make_passes_a_failure_on(clone: Clone) -> None:
    done = clone.run("make", "test", FAKE_NO_ENSUREPIP="1")
    assert done.returncode == 2
    assert "apt-get install python3-venv" in done.stderr
