import os
import signal
import threading
from collections.abc import Callable

import pytest

from graft.errors import GraftError, Interrupted
from graft.signals import StopSignals

BOTH = (signal.SIGINT, signal.SIGTERM)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def stopped(work: Callable[[StopSignals], None]) -> Interrupted:
    """What stops `work`, which hears signals."""
    with pytest.raises(Interrupted) as told, StopSignals() as signals:
        work(signals)
    return told.value


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_where_it_comes(number: int, code: int) -> None:
    def work(signals: StopSignals) -> None:
        send(number)
        pytest.fail("it goes on")

    told = stopped(work)
    assert told.exit_code == code
    assert not told.at_once
    assert not isinstance(told, Exception | GraftError), "who goes on after errors does not go on after this"


def test_one_that_is_deferred_waits_for_the_place_that_asks() -> None:
    def work(signals: StopSignals) -> None:
        with signals.deferred():
            send(signal.SIGTERM)
            assert signals.heard
            signals.check("after step 3", fix="go on")

    assert str(stopped(work)) == "stopped by SIGTERM after step 3\n  -> go on"


def test_it_waits_no_longer_than_the_outer_block() -> None:
    reached = []

    def work(signals: StopSignals) -> None:
        with signals.deferred():
            with signals.deferred():
                send(signal.SIGINT)
                reached.append("inner")
            reached.append("outer")
        reached.append("behind")

    stopped(work)
    assert reached == ["inner", "outer"]


@pytest.mark.parametrize("before", [False, True])
def test_a_part_of_the_block_may_not_wait(before: bool) -> None:
    def work(signals: StopSignals) -> None:
        with signals.deferred():
            if before:
                send(signal.SIGINT)
            with signals.at_once():
                send(signal.SIGINT)
                pytest.fail("it goes on")

    assert not stopped(work).at_once


def test_an_error_in_the_block_is_that_error() -> None:
    def work(signals: StopSignals) -> None:
        with signals.deferred():
            send(signal.SIGTERM)
            raise KeyError

    with pytest.raises(KeyError), StopSignals() as signals:
        work(signals)


@pytest.mark.parametrize("first", BOTH)
@pytest.mark.parametrize("second", BOTH)
def test_the_second_stops_at_once(first: int, second: int) -> None:
    def work(signals: StopSignals) -> None:
        with signals.deferred():
            send(first)
            send(second)
            pytest.fail("it goes on")

    told = stopped(work)
    assert told.at_once
    assert told.exit_code == 128 + second


def test_who_heard_before_hears_again() -> None:
    before = [signal.getsignal(number) for number in BOTH]
    with StopSignals(), StopSignals():
        assert [signal.getsignal(number) for number in BOTH] != before
    assert [signal.getsignal(number) for number in BOTH] == before


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            send(signal.SIGINT)
            assert not signals.heard
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_is_heard_and_nothing_fails() -> None:
    heard: list[object] = []

    def work() -> None:
        with StopSignals() as signals, signals.deferred():
            heard.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert heard == [before]
