"""Who may get a request, and why the others may not."""

from __future__ import annotations

import pytest

from muster.discovery.records import Instance, Transport
from muster.errors import (
    CannotConnect,
    ConnectionTimeout,
    Disconnected,
    EngineShutdown,
    InvalidArgument,
    MusterError,
    Overloaded,
    ProtocolError,
    ResponseTimeout,
    StreamIncomplete,
    WorkerUnavailable,
)
from muster.runtime.calling.instances import InstanceSet


class Fleet(InstanceSet):
    """A set with a clock of its own."""

    def __init__(self, *instances: Instance, inhibit_s: float = 5.0, overloaded_s: float = 0.5):
        self.time = 100.0
        super().__init__(lambda: self.time, inhibit_s=inhibit_s, overloaded_s=overloaded_s)
        for each in instances:
            self.put(each)

    def fail(self, instance_id: int, failure: MusterError) -> None:
        """A request could not be sent there."""
        load = self.loads[instance_id]
        load.reserve()
        load.refused(failure)

    def fill(self, instance_id: int) -> None:
        """A request was refused for want of room."""
        self.fail(instance_id, Overloaded("at capacity"))


def instance(
    number: int,
    address: str = "127.0.0.1:80/1/n/c/e",
    kind: str = "tcp",
    device_type: str | None = None,
) -> Instance:
    return Instance(
        namespace="n",
        component="c",
        endpoint="e",
        instance_id=number,
        transport=Transport(kind, address),
        device_type=device_type,
        request_plane_codec="msgpack",
    )


BROKEN = Disconnected("it broke")


# -- discovered --------------------------------------------------------------------------------


def test_all_that_can_be_reached_are_free_in_order_of_id() -> None:
    assert Fleet(instance(2**64 - 1), instance(3), instance(20)).free() == (3, 20, 2**64 - 1)


def test_what_is_free_is_the_same_object_while_nothing_changes() -> None:
    fleet = Fleet(instance(1), instance(2))
    before = fleet.free()
    fleet.put(instance(1))
    fleet.time += 1000
    assert fleet.free() is before


def test_instances_are_in_order_of_their_paths_whoever_comes_or_goes_or_changes() -> None:
    fleet = Fleet(instance(3), instance(20))
    assert fleet.instances() == (instance(20), instance(3))  # paths are texts
    fleet.put(instance(1))
    assert fleet.instances() == (instance(1), instance(20), instance(3))
    fleet.remove(20)
    fleet.put(instance(3, "127.0.0.2:80/1/n/c/e"))
    assert fleet.instances() == (instance(1), instance(3, "127.0.0.2:80/1/n/c/e"))


def test_one_that_left_is_gone_and_leaving_twice_is_fine() -> None:
    fleet = Fleet(instance(1), instance(2))
    fleet.remove(1)
    fleet.remove(1)
    assert fleet.free() == (2,)
    assert fleet.exclusions() == {}
    assert set(fleet.loads) == {2}


def test_a_transport_or_address_or_codec_we_cannot_use_has_its_reason() -> None:
    unknown_codec = Instance(
        namespace="n",
        component="c",
        endpoint="e",
        instance_id=3,
        transport=Transport("tcp", "h:1/p"),
        request_plane_codec="cbor",
    )
    fleet = Fleet(instance(1, "somewhere", kind="pigeon"), instance(2, "nonsense"), unknown_codec)
    assert fleet.free() == fleet.routable() == ()
    reasons = fleet.exclusions()
    assert "'pigeon' is not spoken here" in reasons[1]
    assert "not an address of the form host:port/path" in reasons[2]
    assert "unknown codec 'cbor'" in reasons[3]


def test_the_device_of_an_instance_is_the_one_in_its_record() -> None:
    fleet = Fleet(instance(1, device_type="cpu"), instance(2))
    assert (fleet.loads[1].device_type, fleet.loads[2].device_type) == ("cpu", None)
    fleet.put(instance(1, device_type="cuda"))
    assert fleet.loads[1].device_type == "cuda"


# -- routable ----------------------------------------------------------------------------------


def test_an_instance_that_failed_is_left_out_for_a_while_then_comes_back() -> None:
    fleet = Fleet(instance(1), instance(2))
    fleet.fail(1, BROKEN)
    assert fleet.free() == fleet.routable() == (2,)
    assert fleet.next_return() == 105.0
    fleet.time = 101.0
    assert fleet.exclusions() == {1: "avoided for 4.0 s after a failure: it broke"}
    fleet.time = 104.9
    assert fleet.free() == (2,)
    fleet.time = 105.0
    assert fleet.free() == (1, 2)
    assert fleet.exclusions() == {}
    assert fleet.next_return() is None


@pytest.mark.parametrize(
    "kind",
    [
        CannotConnect,
        ConnectionTimeout,
        Disconnected,
        ResponseTimeout,
        StreamIncomplete,
        EngineShutdown,
        WorkerUnavailable,
    ],
)
def test_these_failures_speak_against_an_instance(kind: type[MusterError]) -> None:
    fleet = Fleet(instance(1))
    fleet.fail(1, kind("it"))
    assert fleet.routable() == ()


@pytest.mark.parametrize("kind", [InvalidArgument, ProtocolError, MusterError])
def test_other_failures_do_not(kind: type[MusterError]) -> None:
    fleet = Fleet(instance(1))
    fleet.fail(1, kind("it"))
    assert fleet.free() == (1,)


def test_a_second_failure_does_not_avoid_longer_than_the_setting_says() -> None:
    fleet = Fleet(instance(1))
    for _ in range(3):
        fleet.fail(1, BROKEN)
    fleet.time = 105.0
    assert fleet.free() == (1,)


def test_with_no_time_to_avoid_nobody_is_avoided() -> None:
    fleet = Fleet(instance(1), inhibit_s=0)
    fleet.fail(1, BROKEN)
    assert fleet.free() == (1,)


def test_a_failure_of_somebody_who_left_changes_nothing() -> None:
    fleet = Fleet(instance(1), instance(2))
    load = fleet.loads[2]
    load.reserve()
    fleet.remove(2)
    load.refused(BROKEN)
    assert fleet.free() == (1,)
    assert fleet.exclusions() == {}
    assert set(fleet.loads) == {1}


def test_a_new_record_of_an_instance_is_followed_and_clears_its_failure() -> None:
    fleet = Fleet(instance(1))
    fleet.fail(1, BROKEN)
    fleet.put(instance(1, "127.0.0.1:81/1/n/c/e"))
    assert fleet.free() == (1,)
    assert fleet.members[1].instance.transport.address == "127.0.0.1:81/1/n/c/e"


def test_the_same_record_again_does_not_clear_a_failure() -> None:
    fleet = Fleet(instance(1))
    fleet.fail(1, BROKEN)
    fleet.put(instance(1))
    assert fleet.free() == ()


def test_one_that_left_and_came_back_is_not_avoided() -> None:
    fleet = Fleet(instance(1))
    fleet.fail(1, BROKEN)
    fleet.remove(1)
    fleet.put(instance(1))
    assert fleet.free() == (1,)


def test_one_that_was_forgiven_is_not_avoided() -> None:
    fleet = Fleet(instance(1))
    fleet.fail(1, BROKEN)
    fleet.forgive(1)
    assert fleet.free() == (1,)


# -- the last resort ---------------------------------------------------------------------------


def test_the_last_resort_is_the_first_to_return() -> None:
    fleet = Fleet(instance(1), instance(2), instance(3))
    for number in (2, 1, 3):
        fleet.fail(number, BROKEN)
        fleet.time += 0.1
    assert fleet.last_resort({1, 2, 3}) == 2
    assert fleet.last_resort({1, 3}) == 1
    assert fleet.last_resort(set()) is None


@pytest.mark.parametrize("kind", [CannotConnect, ConnectionTimeout])
def test_who_does_not_answer_at_its_address_is_no_last_resort(kind: type[MusterError]) -> None:
    fleet = Fleet(instance(1), instance(2))
    fleet.fail(1, kind("nobody there"))
    assert fleet.last_resort({1, 2}) is None
    fleet.fail(2, BROKEN)
    assert fleet.last_resort({1, 2}) == 2


def test_who_cannot_be_reached_by_any_transport_is_no_last_resort() -> None:
    fleet = Fleet(instance(1, kind="pigeon"))
    assert fleet.last_resort({1}) is None


# -- free --------------------------------------------------------------------------------------


def test_a_full_instance_is_routable_but_not_free_for_a_while() -> None:
    fleet = Fleet(instance(1), instance(2))
    fleet.fill(1)
    assert (fleet.free(), fleet.routable()) == ((2,), (1, 2))
    assert fleet.exclusions() == {1: "full: it refused a request; tried again in 0.5 s"}
    assert fleet.next_return() is None
    fleet.time += 0.5
    assert fleet.free() == (1, 2)


def test_with_no_time_for_it_nobody_is_full() -> None:
    fleet = Fleet(instance(1), overloaded_s=0)
    fleet.fill(1)
    assert fleet.free() == (1,)


def test_a_request_that_could_not_be_sent_makes_no_room() -> None:
    fleet = Fleet(instance(1))
    fleet.fill(1)
    fleet.fail(1, InvalidArgument("too large"))
    assert fleet.free() == ()


def test_a_new_record_makes_room() -> None:
    fleet = Fleet(instance(1))
    fleet.fill(1)
    fleet.put(instance(1, "127.0.0.1:81/1/n/c/e"))
    assert fleet.free() == (1,)


def test_full_and_avoided_is_avoided_first() -> None:
    fleet = Fleet(instance(1))
    fleet.fill(1)
    fleet.fail(1, BROKEN)
    assert "after a failure" in fleet.exclusions()[1]
    assert fleet.routable() == ()
    fleet.time += 0.5
    assert fleet.free() == ()
    fleet.time += 4.5
    assert fleet.free() == (1,)
