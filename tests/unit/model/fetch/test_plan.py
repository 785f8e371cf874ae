from hypothesis import given
from hypothesis import strategies as st

from muster.config.settings import FetchSettings
from muster.digest import Digest
from muster.model.card import ModelDeploymentCard
from muster.model.checked_file import CheckedFile
from muster.model.fetch.plan import plan_fetch
from muster.model.slot import Slot, SlotKind

_NAMES = st.sampled_from(["config.json", "con%66ig.json", "a b", "a%20b", "a%2Fb", "%00", "x.txt"])
_files = st.builds(
    lambda name, host, content: CheckedFile.at(
        f"http://{host}/{name}", Digest.of(content.encode())
    ),
    _NAMES,
    st.sampled_from("pq"),
    st.sampled_from("123"),
)
_config = CheckedFile.at("http://h/config.json", Digest.of(b"config"))
_template = CheckedFile.at("http://h/config.json?2", Digest.of(b"template"))


@given(st.lists(_files, max_size=8))
def test_a_name_means_one_file_slots_come_first_and_nothing_is_forgotten(
    extra: list[CheckedFile],
) -> None:
    card = ModelDeploymentCard(
        display_name="M",
        slug="m",
        model_info=Slot(SlotKind.HF_CONFIG_JSON, _config),
        chat_template_file=Slot(SlotKind.HF_CHAT_TEMPLATE, _template, is_custom=True),
        extra_files=tuple(extra),
    )
    plan = plan_fetch(card, FetchSettings())
    assert [each.file for each in plan.files[:2]] == [_config, _template]
    assert [each.required for each in plan.files] == [True] * 2 + [False] * (len(plan.files) - 2)
    assert [each.linked for each in plan.files] == [True, False] + [True] * (len(plan.files) - 2)
    assert len(plan.files) - 2 + len(plan.left_out) == len(extra)
    meaning: dict[str, Digest] = {}
    for each in plan.files:
        if each.linked:
            assert meaning.setdefault(each.name, each.file.checksum) == each.file.checksum
    assert meaning["config.json"] == _config.checksum
    assert "/" not in "".join(meaning)
