"""For tests of downloads: a server that misbehaves, and a client that does not wait for long."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelkiln.fetch.download import Patience, download
from tests.modelkiln.fetch.small import BODY, PIN
from tests.modelkiln.misbehaving import (
    FileServer,
    Told,
    serve,
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with serve(BODY) as started:
        yield started


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def patience(pauses: list[float]) -> Patience:
    return Patience(timeout=0.3, window=0.1, slowest=10_000, attempts=3, sleep=pauses.append)


@pytest.fixture
def get(server: FileServer, tmp_path: Path, patience: Patience) -> Callable[[], Path]:
    def run() -> Path:
        url = f"{server.url}/small.pt"
        return download(url, PIN, tmp_path, on_progress=Told(), patience=patience)

    return run
