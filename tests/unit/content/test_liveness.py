import os
import subprocess
import sys

import msgspec
import pytest

from muster.content.liveness import ProcessMark, process_lives

OWN = ProcessMark.own()


def test_this_process_lives() -> None:
    assert process_lives(os.getpid())
    assert OWN.is_here
    assert not OWN.is_dead


def test_a_process_that_has_ended_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert not process_lives(child.pid)
    assert msgspec.structs.replace(OWN, pid=child.pid).is_dead


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a process began")
def test_a_number_used_again_is_another_process() -> None:
    assert msgspec.structs.replace(OWN, began="1").is_dead


@pytest.mark.parametrize("field", ["host", "boot", "numbers"])
def test_of_a_process_elsewhere_nothing_is_known(field: str) -> None:
    gone = msgspec.structs.replace(OWN, pid=2**22 + 1)
    assert gone.is_dead
    elsewhere = msgspec.structs.replace(gone, **{field: "other"})
    assert not elsewhere.is_here
    assert not elsewhere.is_dead


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a number is all there is")
@pytest.mark.parametrize("field", ["boot", "numbers"])
def test_a_mark_that_says_too_little_proves_nothing(field: str) -> None:
    assert not msgspec.structs.replace(OWN, pid=2**22 + 1, **{field: ""}).is_dead


@pytest.mark.parametrize("pid", [0, -1, 2**40])
def test_numbers_no_process_has_are_dead_and_harmless(pid: int) -> None:
    assert not process_lives(pid)
