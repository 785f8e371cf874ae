from __future__ import annotations

from muster.frontend.dashboard.exclusion_notes import ExclusionNote, ExclusionNotes


def looks(*reasons: str | None) -> list[list[tuple[int, str]]]:
    """What each look at one model's instance 7 tells; ``None`` is a look that does not find it."""
    notes = ExclusionNotes()
    return [
        [
            (note.instance_id, note.reason)
            for note in notes.look({"m": {} if reason is None else {7: reason}})
        ]
        for reason in reasons
    ]


def test_an_instance_that_is_left_out_is_told_once_it_stays_so() -> None:
    assert looks("", "lost", "lost", "lost") == [[], [], [(7, "lost")], []]


def test_and_so_is_one_that_gets_requests_again() -> None:
    assert looks("lost", "lost", "", "", "")[1:] == [[(7, "lost")], [], [(7, "")], []]


def test_a_moment_is_no_event() -> None:
    assert looks("", "full", "", "full", "", "") == [[]] * 6


def test_another_reason_is_no_other_event() -> None:
    assert looks("lost", "lost", "full", "lost")[2:] == [[], []]


def test_an_instance_that_is_gone_is_forgotten() -> None:
    assert looks("lost", "lost", None, "", "")[2:] == [[], [], []]


def test_models_are_told_apart() -> None:
    notes = ExclusionNotes()
    both = {"a": {1: "lost"}, "b": {1: ""}}
    assert [*notes.look(both)] == []
    assert [*notes.look(both)] == [ExclusionNote("a", 1, "lost")]
