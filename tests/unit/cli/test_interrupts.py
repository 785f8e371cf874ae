from __future__ import annotations

import signal

import pytest

from muster.cli.interrupts import Interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_with_the_shells_code(number: signal.Signals) -> None:
    outside = signal.signal(number, signal.SIG_DFL)  # tests may run under nohup
    try:
        with pytest.raises(SystemExit) as caught, Interrupts():
            signal.raise_signal(number)
        assert caught.value.code == 128 + number
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, outside)


def test_a_held_signal_waits_until_the_work_is_done() -> None:
    done = []

    def work() -> None:
        with Interrupts() as interrupts, interrupts.held():
            signal.raise_signal(signal.SIGTERM)
            done.append("all of it")

    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == 143
    assert done == ["all of it"]


def test_without_a_signal_nothing_happens() -> None:
    with Interrupts() as interrupts, interrupts.held():
        pass


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
