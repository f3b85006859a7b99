"""Signals have one policy: they stop a command, and are messages where threads work."""

import signal
import threading
import time

import pytest

from modelkiln.util.signals import STOPPING, Inbox, handled, interrupt


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_interrupts_a_command(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    if before is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt), handled(interrupt):
            signal.raise_signal(number)
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_that_was_turned_off_stays_off(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with handled(interrupt):
            signal.raise_signal(number)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_what_was_there_before_comes_back() -> None:
    before = [signal.getsignal(one) for one in STOPPING]
    with handled(interrupt), handled(lambda: None):
        pass
    assert [signal.getsignal(one) for one in STOPPING] == before


def test_messages_and_signals_come_in_their_order() -> None:
    inbox: Inbox[int] = Inbox()
    with inbox.open():
        inbox.put(1)
        signal.raise_signal(signal.SIGINT)
        inbox.put(2)
        assert [inbox.take() for _ in range(3)] == [1, None, 2]


def test_a_signal_ends_a_wait() -> None:
    inbox: Inbox[int] = Inbox()
    main = threading.main_thread().ident
    assert main is not None
    with inbox.open():
        threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
        began = time.monotonic()
        assert inbox.take() is None
    assert time.monotonic() - began < 5


def test_another_thread_leaves_signals_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        with handled(interrupt):
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
