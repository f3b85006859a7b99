"""Records with files in a store, and work in a process of its own."""

import os
from collections.abc import Callable

from modelkiln.store.store import Blob, DifferentBytes, Record, Store
from modelkiln.util.hashing import JSON, sha256_json


def refuse_warning(message: str) -> None:
    raise AssertionError(message)


def make_record(step: str, outputs: dict[str, Blob], salt: int = 0) -> Record:
    document: dict[str, JSON] = {"step": step, "salt": salt}
    return Record(
        key=sha256_json(document),
        step=step,
        document=document,
        outputs=outputs,
        metrics={"nodes": 3},
        provenance={"runner": "local"},
    )


def build(store: Store, step: str, data: bytes, salt: int = 0) -> Record:
    return store.publish(make_record(step, {"out.bin": store.put_bytes(data)}, salt))


def in_child(work: Callable[[], object]) -> int:
    """Run work in a fork; return its pid. It exits 0 if it returns, 7 for other bytes."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except DifferentBytes:
            status = 7
        finally:
            os._exit(status)
    return pid


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
