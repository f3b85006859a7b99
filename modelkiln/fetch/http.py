"""HTTP as downloads need it: no silent downgrade to http, and every failure judged once.

Proxies come from the environment (HTTPS_PROXY, NO_PROXY), certificate authorities from the system
or from SSL_CERT_FILE and SSL_CERT_DIR.
"""

import email.utils
import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import cache
from typing import IO, cast

from modelkiln.errors import EnvironmentFailure

_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})


class Unavailable(EnvironmentFailure):
    """A source cannot be reached or does not have the file; another source may."""


class Interruption(Exception):
    """A failure that may pass.

    Attributes:
        after: Seconds that the server asks to wait, or None.
        restart: Whether what has arrived cannot be continued.
    """

    def __init__(self, why: str, after: float | None = None, *, restart: bool = False) -> None:
        super().__init__(why)
        self.after = after
        self.restart = restart


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.type == "https" and not newurl.lower().startswith("https://"):
            raise Unavailable(
                f"{req.full_url} leads to {newurl}, which is not encrypted.",
                "The server, or something on the way to it, is not what it should be.",
                "Name a mirror with MODELKILN_MIRROR, or the downloaded file itself.",
            )
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following is not None:
            following.method = req.get_method()
        return following


def open_url(
    url: str, headers: Mapping[str, str], timeout: float, method: str = "GET"
) -> http.client.HTTPResponse:
    """Open a URL; the status is in the 200s.

    Args:
        timeout: Seconds to wait for a connection, and for each further piece.

    Raises:
        Unavailable: The failure will not pass by itself.
        Interruption: It may pass.
    """
    given = {"User-Agent": "modelkiln", **headers}
    request = urllib.request.Request(url, headers=given, method=method)
    try:
        return cast(http.client.HTTPResponse, _opener().open(request, timeout=timeout))
    except urllib.error.HTTPError as error:
        error.close()
        raise _judge_status(error, url) from None
    except urllib.error.URLError as error:
        raise _judge_reason(error.reason, url) from error
    except (OSError, http.client.HTTPException) as error:
        raise Interruption(f"the server does not answer ({describe(error)})") from error


def is_reachable(url: str, timeout: float) -> bool:
    """Return whether a server offers a file at a URL; a web page in its place counts as no."""
    try:
        with open_url(url, {}, timeout, method="HEAD") as response:
            return response.headers.get_content_type() != "text/html"
    except (Unavailable, Interruption):
        return False


def describe(error: object) -> str:
    """Return a failure in a few words."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


@cache
def _opener() -> urllib.request.OpenerDirector:
    # Not build_opener: it would also open file: and ftp: URLs.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _judge_status(error: urllib.error.HTTPError, url: str) -> Exception:
    answer = f"{error.code} {error.reason}"
    if error.code in _MAY_PASS:
        wait = _retry_after(error.headers.get("Retry-After"))
        return Interruption(f"the server answers {answer}", wait)
    if error.code == 416:
        return Interruption("the server has no more of the file", 0.0, restart=True)
    return Unavailable(
        f"{url} answers {answer}.",
        "The file was moved, or this machine may not have it.",
        "Name a mirror with MODELKILN_MIRROR, or the downloaded file itself.",
    )


def _judge_reason(reason: object, url: str) -> Exception:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return Unavailable(
            f"{url} has a certificate that is not trusted.",
            f"{reason.verify_message}.",
            "Behind a proxy with an authority of its own, set SSL_CERT_FILE to its certificate.",
        )
    if isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN:
        return Unavailable(
            f"{url} cannot be reached: its host name is not known.",
            "There is no network, or no name service.",
            "Check the network, or name a mirror with MODELKILN_MIRROR.",
        )
    if isinstance(reason, OSError):
        return Interruption(f"the server cannot be reached ({describe(reason)})")
    return Unavailable(
        f"{url} cannot be opened.",
        f"{reason}.",
        "Downloads are made over https and http.",
    )


def _retry_after(header: str | None) -> float | None:
    text = (header or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None
