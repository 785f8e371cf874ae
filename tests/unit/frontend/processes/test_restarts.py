from __future__ import annotations

from muster.frontend.processes.restarts import RestartPause


def test_pauses_double_up_to_half_a_minute() -> None:
    pause = RestartPause()
    pauses = [pause.after(1.0) for _ in range(12)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert pauses[-1] == 30.0


def test_a_process_that_lived_long_is_started_again_at_once() -> None:
    pause = RestartPause()
    for _ in range(5):
        pause.after(1.0)
    assert pause.after(60.0) == 0.1
