from muster.digest import Digest
from muster.frontend.file_table import FileTable
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.fetch.resolved import FetchProgress, FetchState, LeftOut
from muster.model.identity import FileRole

NAMES = ("a", "b", "c")


def table() -> FileTable:
    files = tuple(CheckedFile.at(f"http://h/{name}", Digest.of(name.encode())) for name in NAMES)
    return FileTable(ModelDeploymentCard(display_name="M", slug="m", extra_files=files))


def step(name: str, state: FetchState) -> FetchProgress:
    return FetchProgress(
        name=name,
        role=FileRole.EXTRA,
        digest=Digest.of(name.encode()),
        state=state,
        done_bytes=0,
        total_bytes=None,
        seconds=0.0,
        place="",
        code="",
        reason="",
    )


def test_files_count_as_done_once_however_often_their_steps_are_told() -> None:
    files = table()
    seen = []
    for name in NAMES:
        for state in (FetchState.FETCHING, FetchState.FETCHING, FetchState.VERIFYING):
            files.note(step(name, state))
        seen.append((files.done_count, files.is_verifying))
        files.note(step(name, FetchState.VERIFIED))
    assert seen == [(0, False), (1, False), (2, True)]
    assert (files.done_count, files.total_count, files.is_verifying) == (3, 3, False)


def test_what_is_left_out_is_neither_done_nor_verifying() -> None:
    files = table()
    files.note(step("a", FetchState.FAILED))
    digest = Digest.of(b"a")
    files.leave_out([LeftOut(name="a", digest=digest, code="source", message="nobody has it")])
    assert files.done_count == 0
    assert [report.state for report in files.reports()] == ["left_out", "waiting", "waiting"]
