"""Asks a registry of images what it has, as the OCI distribution specification says.

Only manifests are asked for, by HEAD: nothing is downloaded, and it needs no login where images are
public. A registry on this machine is asked by http, any other by https.
"""

import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import cast

_DOCKER = "registry-1.docker.io"
_LOCAL = frozenset({"localhost", "127.0.0.1"})
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LIMIT = 1 << 20


class NotAsked(Exception):
    """The registry gave no answer to the question; its message says why."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Where the images of one name lie.

    Attributes:
        host: The registry's, with its port where that is not the usual one.
        path: The repository's name there.
    """

    host: str
    path: str

    @property
    def name(self) -> str:
        """Its full name, by which any tool finds it."""
        return f"{'docker.io' if self.host == _DOCKER else self.host}/{self.path}"

    @property
    def origin(self) -> str:
        """The registry's address."""
        scheme = "http" if self.host.partition(":")[0] in _LOCAL else "https"
        return f"{scheme}://{self.host}"


def find_repository(image: str) -> Repository:
    """Return where an image lies, by the rules by which Docker reads names."""
    first, slash, rest = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host = _DOCKER if first in ("docker.io", "index.docker.io") else first
        path = rest
    else:
        host, path = _DOCKER, image
    if host == _DOCKER and "/" not in path:
        path = f"library/{path}"
    return Repository(host=host, path=path)


def find_digest(repository: Repository, reference: str, *, timeout: float = 20.0) -> str | None:
    """Return the digest of what a tag or a digest names now, or None where nothing has that name.

    Raises:
        NotAsked: The registry cannot be reached, or does not tell.
    """
    url = f"{repository.origin}/v2/{repository.path}/manifests/{reference}"
    headers = {"Accept": _MANIFESTS}
    answer = _ask(url, headers, timeout, method="HEAD")
    if answer.status == 401:
        challenge = answer.headers.get("WWW-Authenticate", "")
        headers["Authorization"] = f"Bearer {_token(repository, challenge, timeout)}"
        answer = _ask(url, headers, timeout, method="HEAD")
    if answer.status == 404:
        return None
    if answer.status != 200:
        raise NotAsked(f"{repository.host} answers {answer.status} {answer.reason}")
    digest = answer.headers.get("Docker-Content-Digest", "")
    if not _DIGEST.fullmatch(digest):
        raise NotAsked(f"{repository.host} does not say which digest {reference} has")
    return digest


def _token(repository: Repository, challenge: str, timeout: float) -> str:
    """Return a token that lets anybody read, from where the registry's challenge says."""
    scheme, _, rest = challenge.partition(" ")
    given = dict(_CHALLENGE.findall(rest))
    realm = urllib.parse.urlsplit(given.get("realm", ""))
    secure = realm.scheme == "https" or (realm.scheme == "http" and realm.hostname in _LOCAL)
    if scheme.lower() != "bearer" or not secure:
        raise NotAsked(f"{repository.host} wants a login that is not known here")
    wanted = {"scope": f"repository:{repository.path}:pull"}
    if "service" in given:
        wanted["service"] = given["service"]
    query = urllib.parse.urlencode(wanted)
    answer = _ask(realm._replace(query=query).geturl(), {}, timeout)
    try:
        read = json.loads(answer.body)
        return str(read.get("token") or read["access_token"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NotAsked(f"{realm.hostname} gives no token ({answer.status})") from None


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    reason: str
    headers: Message
    body: bytes


def _ask(url: str, headers: dict[str, str], timeout: float, method: str = "GET") -> _Answer:
    request = urllib.request.Request(
        url, headers={"User-Agent": "modelkiln", **headers}, method=method
    )
    try:
        try:
            response = cast(
                http.client.HTTPResponse, urllib.request.urlopen(request, timeout=timeout)
            )
        except urllib.error.HTTPError as error:
            with error:
                return _Answer(
                    status=error.code, reason=error.reason, headers=error.headers, body=b""
                )
        with response:
            return _Answer(
                status=response.status,
                reason=response.reason,
                headers=response.headers,
                body=response.read(_LIMIT),
            )
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        host = urllib.parse.urlsplit(url).netloc
        raise NotAsked(f"{host} cannot be reached: {reason or type(error).__name__}") from None
