"""A small file that is pinned."""

import hashlib

from modelkiln.catalog.models import Checkpoint

BODY = bytes(range(256)) * 2000


def pin_of(body: bytes) -> Checkpoint:
    return Checkpoint(
        file="small.pt",
        url="",
        bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        license="none",
    )


PIN = pin_of(BODY)
