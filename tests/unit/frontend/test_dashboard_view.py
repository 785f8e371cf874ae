"""What the dashboard shows of a report, of the cache, and of what has happened."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from muster.clock import SYSTEM_CLOCK
from muster.content.inventory import Inventory, StoredBlob, StoredView
from muster.digest import Digest
from muster.frontend.dashboard.cache_summary import summarise_cache
from muster.frontend.dashboard.events import RecentEvents
from muster.frontend.dashboard.view import ModelView, model_views
from muster.frontend.report import FileReport, FleetReport, ModelReport, ReplicaReport


def replica(number: int, state: str = "serving", **more: str) -> ReplicaReport:
    return ReplicaReport(key=f"k{number}", instance=f"{number:x}", state=state, **more)


def view(report: ModelReport, before: dict[str, ModelView] | None = None) -> ModelView:
    whole = FleetReport(status="", models=(report,))
    (found,) = model_views(whole, {}, now=1000.0, before=before or {}).values()
    return found


def test_replicas_are_by_identity_else_by_card_with_those_that_serve_first() -> None:
    report = ModelReport(
        model="m", state="serving", worker_set="w",
        replicas=(
            replica(1, "refused", mdcsum="x", code="incompatible"),
            replica(2, mdcsum="a", identity="i"),
            replica(3, mdcsum="b", identity="i"),
            replica(4, "refused", mdcsum="y", code="incompatible"),
        ),
    )  # fmt: skip
    (found,) = model_views(
        FleetReport(status="", models=(report,)),
        {("m w", "x"): ("config.json: other bytes",)},
        now=0.0,
        before={},
    ).values()
    assert [[each.instance for each in cohort.replicas] for cohort in found.cohorts] == [
        ["2", "3"], ["1"], ["4"],
    ]  # fmt: skip
    assert [cohort.differs for cohort in found.cohorts] == [(), ("config.json: other bytes",), ()]


def test_of_settled_files_only_the_number_and_the_size_are_told() -> None:
    def file(state: str, size: int | None) -> FileReport:
        return FileReport(name=state, role="r", digest="d", state=state, size_bytes=size)

    files = (file("cached", 1), file("verified", 2), file("fetching", 4), file("left_out", None))
    found = view(ModelReport(model="m", state="fetching", worker_set="w", files=files))
    assert (found.file_count, found.file_done, found.byte_count) == (4, 2, 7)
    assert [each.name for each in found.files] == ["fetching", "left_out"]


def test_a_moment_that_is_waited_for_does_not_move_as_time_passes() -> None:
    first = view(ModelReport(model="m", state="retrying", worker_set="w", retry_in_s=9.4))
    assert first.retry_at == 1009
    again = view(
        ModelReport(model="m", state="retrying", worker_set="w", retry_in_s=8.6), {"m w": first}
    )
    assert again == first
    later = view(
        ModelReport(model="m", state="retrying", worker_set="w", retry_in_s=30), {"m w": first}
    )
    assert later.retry_at == 1030


def test_a_record_nobody_can_read_goes_by_its_key() -> None:
    report = ModelReport(model="", state="refused", replicas=(ReplicaReport(key="k", state="x"),))
    found = model_views(FleetReport(status="", models=(report,)), {}, now=0.0, before={})
    assert list(found) == ["k"]
    assert found["k"].cohorts[0].replicas[0].key == "k"


def test_the_cache_is_told_by_model_and_counts_shared_files_once_in_all() -> None:
    def blob(letter: str, **more: object) -> StoredBlob:
        values: dict[str, object] = {"size_bytes": 10, "stored_s": 1.0, "used_s": 1.0}
        return StoredBlob(digest=Digest(letter * 64), **(values | more))  # type: ignore[arg-type]

    shared = blob("a", used_s=50.0, users=("7@host",), views=("one/x", "two/y"))
    own = blob("b", views=("one/x",))
    loose = blob("c", problem="it is empty", used_s=99.0)

    def stored(name: str, *blobs: StoredBlob) -> StoredView:
        links = {each.digest.hex: each.digest for each in blobs}
        return StoredView(name=name, path=Path(name), changed_s=0.0, links=links)

    inventory = Inventory(
        root=Path("/cache"), blobs=(shared, own, loose), spare_bytes=5,
        views=(stored("one/x", shared, own), stored("two/y", shared)),
    )  # fmt: skip
    found = summarise_cache(inventory, 100)
    assert (found.files, found.size_bytes, found.spare_bytes, found.max_bytes) == (3, 30, 5, 100)
    told = [(each.name, each.files, each.size_bytes, each.users) for each in found.entries]
    assert told == [
        ("", 1, 10, ()),
        ("one/x", 2, 20, ("7@host",)),
        ("two/y", 1, 10, ("7@host",)),
    ]
    assert found.entries[0].problem == "it is empty"


@dataclasses.dataclass
class At:
    now: float

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic()


def test_the_last_two_hundred_events_are_kept_and_long_ones_cut() -> None:
    events = RecentEvents(At(5.0))
    for number in range(300):
        events.add("info", f"event {number}")
    assert [each.number for each in events.after(0)] == [*range(101, 301)]
    assert [each.what for each in events.after(299)] == ["event 299"]
    assert events.after(300) == ()
    events.add("error", "long", detail="x" * 9000)
    (last,) = events.after(300)
    assert len(last.detail) == 500
    assert last.at == 5.0
