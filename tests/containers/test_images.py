"""Images on real engines: built, named, checked, pruned; and what is said where that fails.

Each test has an environment of its own, so that it gets in the way of nobody else on the engine.
"""

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modelkiln.building.kiln import Kiln
from modelkiln.commands import image as commands
from modelkiln.containers import pruning
from modelkiln.containers.bases import ensure_base, find_base, find_base_obstacle
from modelkiln.containers.builders import ApiBuilder, Request, find_builder
from modelkiln.containers.context import Context
from modelkiln.containers.engine import Engine, connect
from modelkiln.containers.images import (
    BUILD_LABEL,
    LABEL,
    Image,
    ensure_image,
    find_image,
    find_obstacle,
    lock_of,
    sweep,
)
from modelkiln.environments.base_images import BasePin
from modelkiln.environments.environment import Environment, environment
from modelkiln.errors import EnvironmentFailure, KilnError, NotReproducible, OutOfSpace, PinError
from modelkiln.paths import REPOSITORY
from modelkiln.util.flock import hold
from tests.containers.conftest import TOY_ROOMS, leave_out
from tests.containers.serving import make_blobs, pin, serve
from tests.modelkiln.toy_packages import Index, make_wheel


class Yard:
    """Makes environments of the test's own, and images of them on an engine.

    Attributes:
        told: What was told as progress.
    """

    def __init__(self, engine: Engine, base: BasePin, folder: Path) -> None:
        self.engine = engine
        self.base = base
        self.folder = folder
        self.cache = folder / "cache"
        self.told: list[str] = []
        self._digests: set[str] = set()

    def environment(self, change: Callable[[str], str] = str, source: str = "bare") -> Environment:
        """A copy of a toy environment, whose Dockerfile is changed."""
        rooms = self.folder / f"docker-{uuid.uuid4().hex}"
        shutil.copytree(TOY_ROOMS / source, rooms / source)
        found = environment(source, rooms)
        text = change(found.dockerfile.read_text())
        found.dockerfile.write_text(f"{text}# {uuid.uuid4()}\n")
        return found

    def own(self, wanted: Environment) -> str:
        """The digest of an image that goes when the test ends."""
        digest = wanted.image_digest(self.base)
        self._digests.add(digest)
        return digest

    def build(self, wanted: Environment, *, rebuild: bool = False) -> Image:
        self.own(wanted)
        return ensure_image(
            self.engine,
            wanted,
            self.base,
            cache=self.cache,
            offline=False,
            rebuild=rebuild,
            on_progress=lambda _, text: self.told.append(text),
        )

    def find(self, wanted: Environment) -> Image | None:
        return find_image(self.engine, wanted, self.base, cache=self.cache)

    def fail(self, wanted: Environment, kind: type[KilnError]) -> KilnError:
        """The error of a build, which leaves nothing behind."""
        with pytest.raises(kind) as caught:
            self.build(wanted)
        assert type(caught.value) is kind
        assert caught.value.why and caught.value.next
        assert self.leftovers(wanted) == []
        return caught.value

    def leftovers(self, wanted: Environment) -> list[str]:
        """Unnamed images and containers of an environment's builds."""
        digest = self.own(wanted)
        api = self.engine.client.api
        found = []
        for label in (f"{LABEL}={digest}", f"{BUILD_LABEL}={digest}"):
            found += api.images(filters={"label": label, "dangling": True})
            found += api.containers(all=True, filters={"label": label})
        return [str(one["Id"]) for one in found]

    def clean(self) -> None:
        for one in pruning.list_images(self.engine):
            named = any(one.name.endswith(f":{digest[:16]}") for digest in self._digests)
            if named or one.digest in self._digests:
                if one.name:
                    self.engine.client.images.remove(one.name, force=True)
                sweep(self.engine, one.digest)


@pytest.fixture
def kind() -> str:
    """The engine of a test that does not ask for another."""
    return "docker"


# On Podman too: what its own builder does, and what it leaves.
EVERY_BUILDER = pytest.mark.parametrize(
    ("kind", "builder"),
    [("docker", "BuildKit"), ("docker", "API"), ("podman", "API")],
    indirect=["builder"],
)


@pytest.fixture
def yard(
    request: pytest.FixtureRequest, docker_engine: Engine, kind: str, base: BasePin, tmp_path: Path
) -> Iterator[Yard]:
    engine: Engine = request.getfixturevalue(f"{kind}_engine")
    obstacle = find_base_obstacle(engine, base, offline=False)
    if obstacle:
        leave_out(f"{engine} answers, but {obstacle}")
    made = Yard(engine, base, tmp_path)
    yield made
    made.clean()


@pytest.fixture(params=["BuildKit", "API"])
def builder(request: pytest.FixtureRequest, yard: Yard, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each builder that an engine has, in turn."""
    if request.param == "API":
        monkeypatch.setenv("PATH", hide_docker(yard.folder))
    elif isinstance(find_builder(yard.engine), ApiBuilder):
        pytest.skip("no docker command here has BuildKit for this engine")
    return str(request.param)


def hide_docker(folder: Path) -> str:
    """A PATH with git and what starts processes, and no docker."""
    place = folder / "programs"
    place.mkdir(exist_ok=True)
    for name in ("git", "setpriv", "sh", "sleep"):
        found = shutil.which(name)
        if found and not (place / name).exists():
            (place / name).symlink_to(found)
    return str(place)


@EVERY_BUILDER
def test_an_image_is_built_once(
    yard: Yard, builder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = yard.environment()
    assert yard.find(wanted) is None
    assert find_obstacle(yard.engine, wanted, yard.base, cache=yard.cache, offline=False) == ""
    image = yard.build(wanted)
    assert builder in capsys.readouterr().err
    digest = wanted.image_digest(yard.base)
    assert image.name.endswith(f"modelkiln/bare:{digest[:16]}")
    assert yard.leftovers(wanted) == []
    monkeypatch.setenv("PATH", "/nowhere")
    yard.told.clear()
    assert yard.build(wanted) == image == yard.find(wanted)
    assert yard.told == []


def test_what_an_image_says_of_itself(yard: Yard) -> None:
    wanted = yard.environment()
    image = yard.build(wanted)
    config = yard.engine.client.images.get(image.id).attrs["Config"]
    labels = config["Labels"]
    assert config["User"] == "65532:65532"
    assert labels[LABEL] == wanted.image_digest(yard.base)
    assert labels["io.modelkiln.environment"] == "bare"
    assert labels["io.modelkiln.lock"] == wanted.image_identity(yard.base)["lock"]
    assert labels["org.opencontainers.image.base.digest"] == yard.base.digest
    assert labels["org.opencontainers.image.licenses"]
    assert "Healthcheck" not in config or not config["Healthcheck"]
    found = find_base(yard.engine, yard.base)
    assert found is not None
    assert image.layers[:-1] == tuple(found.attrs["RootFS"]["Layers"])


@pytest.fixture(scope="session")
def small_wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the packages of the small environment, which come from an index."""
    from modelkiln.containers.wheelhouse import fetch

    cache = tmp_path_factory.mktemp("small")
    small = environment("small", TOY_ROOMS)
    try:
        fetch(small, cache=cache, offline=False, on_progress=lambda *_: None)
    except EnvironmentFailure as error:
        if "downloaded" not in error.what:
            raise
        leave_out(f"no index of packages answers: {error.why}")
    return cache


def test_two_builds_without_cache_give_the_same_layers(
    yard: Yard, builder: str, small_wheels: Path
) -> None:
    shutil.copytree(small_wheels / "wheels", yard.cache / "wheels")
    wanted = yard.environment(source="small")
    first = yard.build(wanted, rebuild=True)
    # A layer's times are whole seconds.
    time.sleep(1.1)
    second = yard.build(wanted, rebuild=True)
    assert first.id != second.id or yard.engine.kind == "podman"
    assert first.layers == second.layers
    assert yard.leftovers(wanted) == []


def test_a_build_that_comes_out_differently_is_refused(yard: Yard, builder: str) -> None:
    def stamp(text: str) -> str:
        return text.replace(
            "find /out", "cat /proc/sys/kernel/random/uuid >/out/opt/new; find /out"
        )

    wanted = yard.environment(stamp)
    first = yard.build(wanted)
    with pytest.raises(NotReproducible) as caught:
        yard.build(wanted, rebuild=True)
    assert caught.value.exit_code == 7
    assert yard.find(wanted) == first
    assert yard.leftovers(wanted) == []


def test_another_image_under_the_name_is_refused(yard: Yard) -> None:
    wanted, other = yard.environment(), yard.environment(lambda text: text + "ENV OTHER=1\n")
    image = yard.build(wanted)
    base = find_base(yard.engine, yard.base)
    assert base is not None
    base.tag(*image.name.rsplit(":", 1))
    with pytest.raises(PinError, match="not the one that was built") as caught:
        yard.find(wanted)
    assert "--rebuild" in caught.value.next
    with pytest.raises(PinError):
        yard.build(wanted)
    with pytest.raises(PinError):
        find_obstacle(yard.engine, wanted, yard.base, cache=yard.cache, offline=False)
    assert yard.build(wanted, rebuild=True).layers == image.layers
    assert yard.find(wanted) is not None
    assert yard.find(other) is None


def test_an_image_that_nobody_saw_being_built_is_not_used(yard: Yard) -> None:
    wanted = yard.environment()
    image = yard.build(wanted)
    shutil.rmtree(yard.cache / "images")
    assert yard.find(wanted) is None
    assert yard.build(wanted).layers == image.layers
    assert "testing the bare image" in yard.told


def test_an_image_that_was_deleted_is_built_again(yard: Yard) -> None:
    wanted = yard.environment()
    image = yard.build(wanted)
    yard.engine.client.images.remove(image.name, force=True)
    assert yard.find(wanted) is None
    assert yard.build(wanted).layers == image.layers


SEALED = """
import os, socket, sys
found = []
if os.getuid() != 65532 or os.getgid() != 65532: found.append("user")
if os.listdir("/sys/class/net") != ["lo"]: found.append("network")
for place in ("/opt/venv/x", "/x", "/etc/x"):
    try:
        open(place, "w"); found.append(place)
    except OSError:
        pass
if "CANARY" in os.environ: found.append("environment")
status = open("/proc/self/status").read()
if "CapEff:\\t0000000000000000" not in status: found.append("capabilities")
if "NoNewPrivs:\\t1" not in status: found.append("privileges")
sys.exit(" ".join(found) or 0)
"""


def test_the_trial_is_sealed(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "1")
    wanted = yard.environment()
    wanted.selftest.write_text(SEALED)
    wanted.selftest.chmod(0o600)
    yard.build(wanted)


@EVERY_BUILDER
def test_an_image_that_fails_its_trial_gets_no_name(yard: Yard, builder: str) -> None:
    wanted = yard.environment()
    wanted.selftest.write_text("raise SystemExit('the last word')\n")
    error = yard.fail(wanted, EnvironmentFailure)
    assert "self-test" in error.what
    assert "the last word" in error.why
    assert yard.find(wanted) is None


def test_an_image_without_the_locks_packages_gets_no_name(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages = yard.folder / "packages"
    wheel = make_wheel(packages, "canarypackage")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(packages))
    wanted = yard.environment()
    lock(wanted, wheel)
    error = yard.fail(wanted, PinError)
    assert "canarypackage 1.0" in error.why
    assert yard.find(wanted) is None


def lock(wanted: Environment, wheel: Path) -> None:
    from modelkiln.util.hashing import sha256_file

    wanted.lock.write_text(f"canarypackage==1.0 --hash=sha256:{sha256_file(wheel)}\n")


def test_files_that_change_meanwhile_are_noticed(yard: Yard) -> None:
    wanted = yard.environment()
    yard.own(wanted)

    def edit(_: float | None, text: str) -> None:
        if text.startswith("testing"):
            wanted.dockerfile.write_text(wanted.dockerfile.read_text() + "# edited\n")

    with pytest.raises(PinError, match="changed while"):
        ensure_image(
            yard.engine, wanted, yard.base, cache=yard.cache, offline=False, on_progress=edit
        )
    assert yard.find(wanted) is None


def run_in_build(command: str) -> Callable[[str], str]:
    return lambda text: text.replace("RUN set -eu;", f"RUN set -eu; {command};")


def test_a_build_that_fails_shows_its_last_lines(yard: Yard, builder: str) -> None:
    wanted = yard.environment(run_in_build("echo the last word; false"))
    error = yard.fail(wanted, EnvironmentFailure)
    assert "cannot be built" in error.what
    assert "the last word" in error.why
    (log,) = yard.cache.glob("images/*.log")
    assert str(log) in error.next
    assert "the last word" in log.read_text()


def test_a_disk_that_fills_up_in_the_build_is_told(yard: Yard, builder: str) -> None:
    wanted = yard.environment(run_in_build("cat /proc/version >/dev/full"))
    error = yard.fail(wanted, OutOfSpace)
    assert error.exit_code == 9
    assert "image.prune" in error.next


def test_too_little_disk_is_told_before_the_build(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = yard.environment()
    text = wanted.settings.read_text()
    wanted.settings.write_text(text.replace("1_000_000", str(10**15)))
    monkeypatch.setattr("modelkiln.containers.wheelhouse.require_disk", lambda *_: None)
    if yard.engine.root is None:
        pytest.skip("the engine's folder cannot be seen from here")
    assert "Not enough disk" in yard.fail(wanted, OutOfSpace).what
    obstacle = find_obstacle(yard.engine, wanted, yard.base, cache=yard.cache, offline=False)
    assert "has no room" in obstacle


def test_a_build_leaves_nothing_large_behind(yard: Yard, builder: str) -> None:
    mark = uuid.uuid4().hex
    large = f"RUN head -c 60000000 /dev/zero >/{mark}\nWORKDIR /{mark}-small\nRUN set -eu;"
    wanted = yard.environment(lambda text: text.replace("RUN set -eu;", large))
    yard.build(wanted)
    remembered = yard.engine.client.api.df().get("BuildCache") or ()
    # The layer is held by those that stand on it.
    assert not [one for one in remembered if mark in one["Description"]]
    assert yard.leftovers(wanted) == []


@EVERY_BUILDER
def test_the_build_has_no_network(yard: Yard, builder: str) -> None:
    wanted = yard.environment(run_in_build('test "$(ls /sys/class/net)" = lo'))
    yard.build(wanted)


def test_a_local_base_that_is_gone_is_told(yard: Yard) -> None:
    gone = replace(yard.base, image="localhost/gone", digest=f"sha256:{'0' * 64}")
    lost = Yard(yard.engine, gone, yard.folder)
    error = lost.fail(yard.environment(), EnvironmentFailure)
    assert gone.reference in error.what
    assert ".ci/base.sh" in error.next
    wanted = yard.environment()
    obstacle = find_obstacle(yard.engine, wanted, gone, cache=yard.cache, offline=False)
    assert "localhost/gone" in obstacle


def test_a_registry_that_cannot_be_reached_is_told(yard: Yard) -> None:
    base = pin("127.0.0.1:9", f"sha256:{'0' * 64}")
    error = Yard(yard.engine, base, yard.folder).fail(yard.environment(), EnvironmentFailure)
    assert f"{base.reference} cannot be pulled" in error.what
    assert ".ci/base.sh" in error.next
    assert "cannot be reached" in find_base_obstacle(yard.engine, base, offline=False)
    assert "--offline" in find_base_obstacle(yard.engine, base, offline=True)


def test_a_digest_that_the_registry_does_not_know_is_told(yard: Yard) -> None:
    digest, blobs = make_blobs("known")
    with serve(blobs) as host:
        base = pin(host, f"sha256:{'0' * 64}")
        lost = Yard(yard.engine, base, yard.folder)
        error = lost.fail(yard.environment(), EnvironmentFailure)
        obstacle = find_base_obstacle(yard.engine, base, offline=False)
        known = find_base_obstacle(yard.engine, pin(host, digest), offline=False)
    assert f"does not know the base image {base.reference}" in error.what
    assert "pins.check" in error.next
    assert "does not know" in obstacle
    assert known == ""


def test_a_pinned_base_is_pulled_once_by_its_digest(yard: Yard) -> None:
    digest, blobs = make_blobs(str(uuid.uuid4()))
    engine = yard.engine
    with serve(blobs) as host:
        base = pin(host, digest)
        with pytest.raises(EnvironmentFailure, match="is not here"):
            ensure_base(engine, base, offline=True, on_progress=lambda *_: None)
        name, layers = ensure_base(engine, base, offline=False, on_progress=lambda *_: None)
    try:
        # The registry is gone.
        again = ensure_base(engine, base, offline=True, on_progress=lambda *_: None)
        assert again == (name, layers)
        assert name == f"modelkiln/base:{digest[7:19]}"
        assert len(layers) == 1
        assert find_base(engine, replace(base, digest=f"sha256:{'1' * 64}")) is None
    finally:
        engine.client.images.remove(str(engine.client.images.get(name).id), force=True)


def test_two_at_once_build_once(yard: Yard, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = yard.environment()
    found: list[Image] = []
    threads = [threading.Thread(target=lambda: found.append(yard.build(wanted))) for _ in range(2)]
    with hold(lock_of(yard.own(wanted), yard.cache)):
        for thread in threads:
            thread.start()
        until(lambda: sum("waiting for process" in text for text in yard.told) == 2)
    for thread in threads:
        thread.join(120)
    first, second = found
    assert first == second
    assert capsys.readouterr().err.count("built by") == 1


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


PROGRAM = """
import json, sys
from pathlib import Path
from modelkiln.containers.engine import connect
from modelkiln.containers.images import ensure_image
from modelkiln.environments.environment import environment
from modelkiln.environments.base_images import BasePin
rooms, cache, base = sys.argv[1:]
ensure_image(connect(), environment("bare", Path(rooms)), BasePin(**json.loads(base)),
             cache=Path(cache), offline=False, on_progress=lambda *_: None)
"""


@EVERY_BUILDER
def test_ctrl_c_ends_the_build(yard: Yard, builder: str) -> None:
    # A number that no other process sleeps for. Podman ends a build after the step that it is at.
    length = 600 if yard.engine.kind == "docker" else 8
    seconds = f"{length}.{int.from_bytes(os.urandom(4))}"
    wanted = yard.environment(run_in_build(f"sleep {seconds}"))
    yard.own(wanted)
    variables = {**os.environ, "DOCKER_HOST": yard.engine.host, "PYTHONPATH": str(REPOSITORY)}
    base = json.dumps({name: getattr(yard.base, name) for name in yard.base.__dataclass_fields__})
    arguments = [str(wanted.lock.parent.parent), str(yard.cache), base]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        env=variables,
        stderr=subprocess.DEVNULL,
        # Where the tests run in the background, Ctrl-C would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until(lambda: is_asleep(seconds))
    process.send_signal(signal.SIGINT)
    process.wait(60)
    until(lambda: not is_asleep(seconds))
    until(lambda: yard.leftovers(wanted) == [])
    assert yard.find(wanted) is None


def is_asleep(seconds: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == f"sleep\0{seconds}\0".encode():
                return True
        except OSError:
            continue
    return False


INSTALL = (
    "python -m venv /pip; cd /context; /pip/bin/python -m pip --python /opt/venv/bin/python install"
    " --no-index --find-links wheels --require-hashes --no-deps -r requirements.txt; mkdir -p /out"
)


@EVERY_BUILDER
def test_a_password_of_the_users_reaches_no_layer(
    yard: Yard, builder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = f"canary{uuid.uuid4().hex}"
    signs = [canary.encode(), base64.b64encode(f"user:{canary}".encode()).rstrip(b"=")[8:]]
    proxy = f"http://user:{canary}@127.0.0.1:9"
    configuration = yard.folder / "docker-config"
    configuration.mkdir()
    proxies = {"httpProxy": proxy, "httpsProxy": proxy, "noProxy": canary}
    (configuration / "config.json").write_text(json.dumps({"proxies": {"default": proxies}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(configuration))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    # The library reads the user's configuration when it connects.
    yard.engine = connect({"DOCKER_HOST": yard.engine.host})
    packages = yard.folder / "packages"
    wheel = make_wheel(packages, "canarypackage")

    def install(text: str) -> str:
        # If it were handed on, it would be seen.
        text = text.replace("ARG IMAGE", "ARG PIP_INDEX_URL\nARG IMAGE")
        text = text.replace("RUN set -eu;", "COPY . /context\nRUN set -eu; env >/env;")
        return text.replace("mkdir -p /out/opt;", f"{INSTALL}/opt; mv /env /out/opt/env;")

    wanted = yard.environment(install)
    lock(wanted, wheel)
    before = wanted.image_identity(yard.base)
    with Index(packages, canary).serving() as index:
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        monkeypatch.setenv("PIP_INDEX_URL", index.url)
        image = yard.build(wanted)
    # The password was needed, and the package is there.
    assert any(path.endswith(wheel.name) for path in index.asked)
    engine_image = yard.engine.client.images.get(image.id)
    saved = b"".join(engine_image.save())
    layers = read_layers(saved)
    assert any(b"SOURCE_DATE_EPOCH=" in layer for layer in layers)
    assert any(b"canarypackage" in layer for layer in layers)
    texts = [saved, *layers]
    texts.append(json.dumps(engine_image.history()).encode())
    texts.append(json.dumps(engine_image.attrs).encode())
    texts += [path.read_bytes() for path in yard.cache.rglob("*") if path.is_file()]
    for text in texts:
        assert not any(sign in text for sign in signs)
    assert wanted.image_identity(yard.base) == before


def read_layers(saved: bytes) -> list[bytes]:
    """The layers of a saved image, unpacked where they are compressed."""
    import gzip

    layers = []
    with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
        for entry in tar:
            file = tar.extractfile(entry) if entry.isfile() else None
            data = file.read() if file else b""
            layers.append(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    return layers


def test_prune_removes_what_is_not_kept(yard: Yard) -> None:
    kept, gone = yard.build(yard.environment()), yard.build(yard.environment())
    others = {one.name for one in pruning.list_images(yard.engine)} - {gone.name}
    assert kept.name in others

    def prune(**options: bool) -> list[str]:
        # What others do on this engine meanwhile stays.
        keep = {one.name for one in pruning.list_images(yard.engine)} - {gone.name}
        found = pruning.prune_images(yard.engine, keep, cache=yard.cache, **options)
        return [one.name for one in found if one.name == gone.name]

    assert prune(dry_run=True) == [gone.name]
    assert gone.name in {one.name for one in pruning.list_images(yard.engine)}
    user = yard.engine.client.containers.create(gone.id, command=["true"])
    try:
        assert prune() == []
    finally:
        user.remove(force=True)
    assert prune() == [gone.name]
    names = {one.name for one in pruning.list_images(yard.engine)}
    assert gone.name not in names
    assert kept.name in names


def test_everything_means_all_that_modelkiln_made(yard: Yard) -> None:
    image = yard.build(yard.environment())
    planned = pruning.prune_images(
        yard.engine, {image.name}, cache=yard.cache, everything=True, dry_run=True
    )
    kinds = {one.name: one.kind for one in planned}
    assert kinds[image.name] is pruning.Kind.ENVIRONMENT
    assert pruning.Kind.BASE in kinds.values()
    assert all("modelkiln/" in name for name in kinds if name)


@EVERY_BUILDER
def test_what_a_killed_build_left_is_pruned(yard: Yard, builder: str) -> None:
    wanted = yard.environment()
    digest = yard.own(wanted)
    name, _ = ensure_base(yard.engine, yard.base, offline=True, on_progress=lambda *_: None)
    context = Context(files={"Dockerfile": wanted.dockerfile})
    request = Request(context=context, base=name, build=digest, labels={LABEL: digest})
    find_builder(yard.engine).build(request, lambda _: None)

    def listed() -> list[pruning.Kind]:
        return [one.kind for one in pruning.list_images(yard.engine) if one.digest == digest]

    assert set(listed()) == {pruning.Kind.LEFTOVER}
    keep = {one.name for one in pruning.list_images(yard.engine) if one.digest != digest}
    with hold(lock_of(digest, yard.cache)):
        pruning.prune_images(yard.engine, keep, cache=yard.cache)
        assert listed()
    pruning.prune_images(yard.engine, keep, cache=yard.cache)
    assert listed() == []


def test_the_commands_build_list_and_prune(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = yard.environment()
    yard.own(wanted)
    monkeypatch.setenv("DOCKER_HOST", yard.engine.host)
    monkeypatch.setenv("MODELKILN_CACHE", str(yard.cache))
    monkeypatch.setenv("MODELKILN_CATALOG", str(yard.folder / "catalog"))
    (yard.folder / "catalog").mkdir()
    wanted.lock.parent.parent.rename(yard.folder / "catalog" / "docker")
    kiln = Kiln(artifacts=yard.folder / "artifacts")
    commands.build_image(kiln, "bare", as_json=True)
    (built,) = json.loads(capsys.readouterr().out)
    commands.list_images(kiln, as_json=True)
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert listed[built["name"]]["needed"]
    assert listed[built["name"]]["id"] == built["id"]
    commands.list_images(kiln)
    assert built["name"] in capsys.readouterr().out
    commands.prune_images(kiln, dry_run=True)
    assert built["name"] not in capsys.readouterr().out
    commands.prune_images(kiln, everything=True, dry_run=True)
    assert f"would remove {built['name']}" in capsys.readouterr().out
