"""For all tests: Ctrl-C counts, even where they were started in the background.

For those on the host, a kiln with a toy family: its stages are real processes that take no time.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# Imported late: an environment of the exporters runs tests too, and needs nothing of this.
if TYPE_CHECKING:
    from modelkiln.building.kiln import Kiln
    from modelkiln.catalog.catalog import Catalog
    from tests.warm import Warm

signal.signal(signal.SIGINT, signal.default_int_handler)
# Likewise where nohup has turned it off for all that they start.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

REPOSITORY = Path(__file__).resolve().parent.parent
TOY = REPOSITORY / "tests" / "toy"
TARGET = "toy_a/words/toy-text"
NO_ENGINE = "unix:///nowhere/engine.sock"


@pytest.fixture(scope="session")
def shared_room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the tests of one run share, whichever worker of pytest-xdist runs them."""
    base = tmp_path_factory.getbasetemp()
    room = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "shared"
    room.mkdir(exist_ok=True)
    return room


@pytest.fixture(autouse=True)
def take_turns(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where workers run tests at once, one that is marked `alone` has the machine to itself."""
    if not os.environ.get("PYTEST_XDIST_WORKER"):
        yield
        return
    room: Path = request.getfixturevalue("shared_room")
    alone = request.node.get_closest_marker("alone") is not None
    with (room / "turnstile").open("w") as turnstile, (room / "machine").open("w") as machine:
        # Who waits for the machine holds the turnstile, so that the others cannot go on forever.
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        yield


@pytest.fixture(scope="session")
def shared_cache(shared_room: Path) -> Path:
    """A cache that the tests of one run share, so that the toy environment is made once."""
    room = shared_room / "cache"
    room.mkdir(exist_ok=True)
    return room


@pytest.fixture
def toy(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environment variables of the toy catalog; returns the artifacts folder."""
    monkeypatch.setenv("MODELKILN_ARTIFACTS", str(tmp_path / "artifacts"))
    monkeypatch.setenv("MODELKILN_CACHE", str(shared_cache))
    monkeypatch.setenv("MODELKILN_CATALOG", str(TOY))
    # The machine's engine, if it has one, is for tests/containers.
    monkeypatch.setenv("DOCKER_HOST", NO_ENGINE)
    return tmp_path / "artifacts"


MakeKiln = Callable[..., "Kiln"]
_catalogs: dict[tuple[object, ...], "Catalog"] = {}


def load_once(folders: Iterable[Path]) -> "Catalog":
    """`load_catalog`, once for files that have not changed."""
    from modelkiln.catalog.catalog import load_catalog

    rooms = tuple(folders)
    files = sorted(path for room in rooms for path in room.rglob("*"))
    seen = [(path, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino)
            for path, one in ((path, path.lstat()) for path in files)]  # fmt: skip
    question = (rooms, *seen)
    if question not in _catalogs:
        _catalogs[question] = load_catalog(rooms)
    return _catalogs[question]


@pytest.fixture
def make_kiln(toy: Path, monkeypatch: pytest.MonkeyPatch) -> MakeKiln:
    """Makes kilns on the toy catalog, with random weights unless told otherwise."""

    from modelkiln.building.kiln import Kiln
    from modelkiln.building.options import Options

    monkeypatch.setattr("modelkiln.building.kiln.load_catalog", load_once)

    def make(artifacts: Path = toy, **options: object) -> Kiln:
        return Kiln(replace(Options(weights="random:0"), **options), artifacts)  # type: ignore[arg-type]

    return make


MakeBuilt = Callable[..., Path]


@pytest.fixture
def make_built(toy: Path, shared_room: Path) -> MakeBuilt:
    """Fills the artifacts folder with a build of targets, with random weights.

    It is made by the first test that asks for these targets of this catalog, and copied to the
    others; with `published=False` without its published targets.
    """

    def fill(texts: str = TARGET, *, published: bool = True) -> Path:
        from modelkiln.building.build import build
        from modelkiln.building.kiln import Kiln
        from modelkiln.building.options import Options

        question = hashlib.sha256(texts.encode())
        catalog = Path(os.environ["MODELKILN_CATALOG"])
        for path in sorted(path for path in catalog.rglob("*") if path.is_file()):
            if "__pycache__" not in path.parts:
                name, content = path.relative_to(catalog).as_posix(), path.read_bytes()
                question.update(f"{name} {len(content)} ".encode() + content)
        place = shared_room / f"built-{question.hexdigest()[:16]}"
        with place.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not place.is_dir():
                half = place.with_suffix(".part")
                kiln = Kiln(Options(weights="random:0"), half)
                assert not build(kiln, kiln.targets(texts)).failed
                kiln.save_caches()
                half.rename(place)
        shutil.copytree(place, toy, symlinks=True)
        if not published:
            shutil.rmtree(toy / "out")
        return toy

    return fill


@pytest.fixture
def built(make_built: MakeBuilt) -> Path:
    """The artifacts folder, in which TARGET of the catalog as it is has been built."""
    return make_built()


@pytest.fixture
def toy_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Path) -> Path:
    """A copy of the toy catalog that a test may edit."""
    copy = tmp_path / "toy"
    shutil.copytree(TOY, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("MODELKILN_CATALOG", str(copy))
    return copy


Invoke = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command_line(toy: Path) -> Invoke:
    """Runs `invoke ARGUMENTS` as a user would, and returns what it did and said."""

    def run(*arguments: str, settings: Mapping[str, str] | None = None) -> object:
        return subprocess.run(
            [sys.executable, "-m", "invoke", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **(settings or {})},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run  # type: ignore[return-value]


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Warm"]:
    """What starts commands fast."""
    from tests.warm import Warm

    started = Warm(tmp_path_factory.mktemp("warm"))
    yield started
    started.close()


@pytest.fixture
def invoke(toy: Path, warm: "Warm") -> Invoke:
    """`command_line` in a fourth of the time; see tests/warm.py for what differs."""

    def run(*arguments: str, settings: Mapping[str, str] | None = None) -> object:
        return warm.run(arguments, {**os.environ, **(settings or {})})

    return run  # type: ignore[return-value]
