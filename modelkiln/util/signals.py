"""What signals do, in one place: SIGINT, SIGTERM and SIGHUP all ask a command to stop.

In a command they raise KeyboardInterrupt, which nothing catches but to clean up. Where threads
work, an exception could come between any two lines and lose what has just started or ended: there
each signal is a message to the thread that waits for them.
"""

import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Generic, TypeVar

T = TypeVar("T")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def handled(handler: Callable[[], None]) -> Iterator[None]:
    """Call `handler` at each signal for the length of a `with` block of the main thread.

    A signal that the caller of the program has turned off stays off.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(_: int, __: FrameType | None) -> None:
        handler()

    before = {
        one: signal.signal(one, handle)
        for one in STOPPING
        if signal.getsignal(one) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for one, was in before.items():
            signal.signal(one, was)


def interrupt() -> None:
    """Raise KeyboardInterrupt: what a signal does to a command."""
    raise KeyboardInterrupt


class Inbox(Generic[T]):
    """Messages of threads to the one that started them, and signals among them.

    Within `with inbox.open():` a signal is the message None.
    """

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[T | None] = queue.SimpleQueue()

    def put(self, message: T) -> None:
        """Send a message; from any thread."""
        self._messages.put(message)

    def take(self) -> T | None:
        """Wait for the next message; None is a signal."""
        while True:
            try:
                # A wait without an end would keep the handler from running.
                return self._messages.get(timeout=0.5)
            except queue.Empty:
                continue

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make signals messages for the length of a `with` block."""
        with handled(lambda: self._messages.put(None)):
            yield
