"""modelkiln.fetch.checkpoints: fetching pinned checkpoints, and looking at the user's own."""

import hashlib
import multiprocessing
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelkiln.catalog.models import Checkpoint
from modelkiln.errors import EnvironmentFailure, OutOfSpace, PinError, UsageError
from modelkiln.fetch.checkpoints import fetch, find_cached, host_reachable, identify
from modelkiln.fetch.download import Patience
from modelkiln.util import machine
from tests.modelkiln.misbehaving import FileServer, Handler, Told, properly, say, serve

BODY = b"not really a checkpoint\n" * 9000
QUICK = Patience(timeout=0.3, attempts=1, sleep=lambda _: None)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with serve(BODY) as started:
        yield started


def pin(url: str = "http://127.0.0.1:9") -> Checkpoint:
    return Checkpoint(
        file="small.pt",
        url=f"{url}/small.pt",
        bytes=len(BODY),
        sha256=hashlib.sha256(BODY).hexdigest(),
        license="none",
    )


def get(
    checkpoint: Checkpoint,
    cache: Path,
    *,
    mirrors: tuple[str, ...] = (),
    offline: bool = False,
    told: Told | None = None,
) -> Path:
    return fetch(
        checkpoint,
        cache=cache,
        mirrors=mirrors,
        offline=offline,
        on_progress=told or Told(),
        patience=QUICK,
    )


def test_fetched_once_then_found(server: FileServer, tmp_path: Path) -> None:
    checkpoint = pin(server.url)
    assert find_cached(checkpoint, tmp_path) is None
    path = get(checkpoint, tmp_path)
    assert path == tmp_path / "weights" / checkpoint.sha256 / "small.pt"
    assert find_cached(checkpoint, tmp_path) == path
    assert get(checkpoint, tmp_path, offline=True) == path
    assert len(server.seen) == 1


@pytest.mark.parametrize("damage", ["flip", "cut", "link"])
def test_damaged_file_in_the_cache_is_put_aside_and_fetched_anew(
    server: FileServer, tmp_path: Path, damage: str
) -> None:
    checkpoint, told = pin(server.url), Told()
    path = get(checkpoint, tmp_path)
    path.chmod(0o644)
    if damage == "flip":
        path.write_bytes(b"N" + BODY[1:])
    elif damage == "cut":
        path.write_bytes(BODY[:10])
    else:
        (tmp_path / "elsewhere").write_bytes(BODY)
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
    assert get(checkpoint, tmp_path, told=told).read_bytes() == BODY
    assert not path.is_symlink()
    assert "damaged" in told.text
    assert path.with_name("small.pt.damaged").is_symlink() == (damage == "link")


def test_mirror_folder_serves_offline(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "small.pt").write_bytes(BODY)
    path = get(pin(), tmp_path / "cache", mirrors=(str(mirror),), offline=True)
    assert path.read_bytes() == BODY
    assert not path.is_symlink()


def test_mirror_may_be_the_file_under_any_name(tmp_path: Path) -> None:
    (tmp_path / "downloaded (1).pt").write_bytes(BODY)
    mirrors = (str(tmp_path / "downloaded (1).pt"),)
    assert get(pin(), tmp_path / "cache", mirrors=mirrors).read_bytes() == BODY


def test_mirror_address_comes_before_the_official_one(server: FileServer, tmp_path: Path) -> None:
    assert get(pin(), tmp_path, mirrors=(f"{server.url}/",)).read_bytes() == BODY


def test_missing_mirror_is_passed_over(server: FileServer, tmp_path: Path) -> None:
    mirrors = (str(tmp_path / "nowhere"), "http://127.0.0.1:9/mirror")
    assert get(pin(server.url), tmp_path, mirrors=mirrors).read_bytes() == BODY


def test_wrong_file_in_a_mirror_stops_everything(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "small.pt").write_bytes(b"N" + BODY[1:])
    with pytest.raises(PinError, match="not the file that the catalog pins"):
        get(pin(server.url), tmp_path / "cache", mirrors=(str(tmp_path),))
    assert server.seen == []
    assert find_cached(pin(), tmp_path / "cache") is None


def test_strange_mirror_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a mirror"):
        get(pin(), tmp_path, mirrors=("ftp://host.example/",))


def test_offline_asks_nobody(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailure, match="--offline") as caught:
        get(pin(server.url), tmp_path, mirrors=(server.url,), offline=True)
    assert caught.value.exit_code == 4
    assert server.seen == []


def test_every_refusal_is_named(server: FileServer, tmp_path: Path) -> None:
    server.script = [say(404)]
    with pytest.raises(EnvironmentFailure) as caught:
        get(pin(server.url), tmp_path, mirrors=(str(tmp_path / "nowhere"),))
    assert "nowhere is not there" in caught.value.why
    assert "404" in caught.value.why
    assert "MODELKILN_MIRROR" in caught.value.next


def test_disk_is_looked_at_first(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "disk_free", lambda _: 1000)
    with pytest.raises(OutOfSpace, match=r"need 216\.0 kB, have 1\.0 kB"):
        get(pin(server.url), tmp_path)
    assert server.seen == []


def test_unwritable_cache_is_said(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(EnvironmentFailure, match="cannot be made"):
        get(pin(), tmp_path / "cache")


def _fetch_elsewhere(url: str, cache: Path, told: "multiprocessing.SimpleQueue[str]") -> None:
    fetch(pin(url), cache=cache, on_progress=lambda _, text: told.put(text), patience=Patience())


def test_two_processes_download_once(server: FileServer, tmp_path: Path) -> None:
    def slowly(handler: Handler) -> None:
        time.sleep(0.4)
        properly(handler)

    server.script = [slowly]
    context = multiprocessing.get_context("fork")
    told: multiprocessing.SimpleQueue[str] = context.SimpleQueue()
    arguments = (server.url, tmp_path, told)
    started = [context.Process(target=_fetch_elsewhere, args=arguments) for _ in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(20)
    assert [process.exitcode for process in started] == [0, 0]
    texts = []
    while not told.empty():
        texts.append(told.get())
    assert len(server.seen) == 1
    waited = [text for text in texts if text.startswith("waiting for process ")]
    assert any(f"process {process.pid} on" in waited[0] for process in started)


def test_host_reachable(server: FileServer) -> None:
    assert host_reachable(f"{server.url}/small.pt", timeout=1.0)
    assert not host_reachable("http://127.0.0.1:9/small.pt", timeout=1.0)


def write_zip(path: Path, *names: str, compressed: bool = False) -> Path:
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in names:
            archive.writestr(name, b"\0" * 50_000)
    return path


def test_pickle_needs_trust(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "mine.pt", "mine/data.pkl", "mine/data/0")
    with pytest.raises(UsageError, match="--trust") as caught:
        identify(path, trust=False)
    assert "run any code" in caught.value.why
    found = identify(path, trust=True)
    assert (found.format, found.path) == ("pt", path)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_pinned_pickle_needs_no_trust(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "official.pt", "official/data.pkl")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert identify(path, trust=False, pinned={digest}).sha256 == digest


def test_legacy_pickle_is_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    path.write_bytes(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03.")
    with pytest.raises(UsageError, match="--trust"):
        identify(path, trust=False)
    assert identify(path, trust=True).format == "pt"


def test_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zip(tmp_path / "mine.pt", "mine/data.pkl")
    monkeypatch.chdir(tmp_path)
    assert identify(Path("mine.pt"), trust=True).path == tmp_path / "mine.pt"


def test_digest_may_come_from_elsewhere(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "mine.pt", "mine/data.pkl")
    assert identify(path, trust=True, digest=lambda _: "remembered").sha256 == "remembered"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"\n <!doctype HTML><title>Sign in</title>", "web page"),
        (b"\xef\xbb\xbf<html>", "web page"),
        (b"ONNX is something else", "neither a PyTorch nor a safetensors"),
        (b"\0" * 257 + b"ustar\0" + b"\0" * 400, "tar file"),
        (b"PK\x03\x04 and then nothing that a zip file has", "cut short"),
    ],
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=why) as caught:
        identify(path, trust=True)
    assert caught.value.exit_code == 2
    assert caught.value.next


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (("model/code/__torch__.py", "model/data.pkl"), "TorchScript"),
        (("readme.txt",), "data.pkl"),
        (("mine/data.pkl", "../outside"), "outside of itself"),
        (("mine/data.pkl", "/etc/outside"), "outside of itself"),
    ],
)
def test_zip_that_is_no_checkpoint(tmp_path: Path, names: tuple[str, ...], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        identify(write_zip(tmp_path / "mine.pt", *names), trust=True)


def test_zip_bomb(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "mine.pt", "mine/data.pkl", "mine/data/0", compressed=True)
    with pytest.raises(UsageError, match="more than its own size"):
        identify(path, trust=True)


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.999])
def test_truncated_zip(tmp_path: Path, kept: float) -> None:
    path = write_zip(tmp_path / "mine.pt", "mine/data.pkl", "mine/data/0")
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(UsageError, match="cut short"):
        identify(path, trust=True)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        identify(tmp_path / "absent.pt", trust=True)
    with pytest.raises(UsageError, match="is not a file"):
        identify(tmp_path, trust=True)
