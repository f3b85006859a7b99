"""An engine whose API does what a test says, and notes how it was called."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import docker
import requests

from modelkiln.containers.engine import Engine


class Api:
    """Calls by their names: what each answers, or does; all are noted.

    Args:
        answers: A value, or a function of the call's arguments.
    """

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **words: Any) -> Any:
            self.calls.append((name, given, words))
            answer = self.answers[name]
            if isinstance(answer, Exception):
                raise answer
            return answer(*given, **words) if callable(answer) else answer

        return call

    def named(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The arguments of the calls of a name."""
        return [(given, words) for one, given, words in self.calls if one == name]


class FakeEngine(SimpleNamespace):
    """Stands for an engine: `api` and `images` are `Api`."""

    def __str__(self) -> str:
        return "Docker 1.2.3"


def make_engine(
    api: Api | None = None, images: Api | None = None, kind: str = "docker", **more: Any
) -> Engine:
    """Return an engine of these answers."""
    client = SimpleNamespace(api=api or Api(), images=images or Api())
    return cast(Engine, FakeEngine(client=client, kind=kind, host="unix:///s", root=None, **more))


def refusal(status: int, said: str = "no") -> docker.errors.APIError:
    """Return an error as Docker's library has it."""
    response = requests.Response()
    response.status_code, response.reason, response.url = status, said, "/v1"
    return docker.errors.APIError(said, response=response)
