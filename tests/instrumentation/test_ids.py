"""Message ids: form, uniqueness, order."""

import time
import uuid

from hypothesis import given
from hypothesis import strategies as st

from hopwatch.ids import is_message_id, new_message_id


def test_a_message_id_is_a_uuid_of_version_7() -> None:
    """A minted id is a valid UUIDv7 that says when it was minted."""
    before = time.time_ns() // 1_000_000
    minted = uuid.UUID(new_message_id())
    after = time.time_ns() // 1_000_000
    assert (minted.version, minted.variant) == (7, uuid.RFC_4122)
    assert before <= minted.int >> 80 <= after


def test_message_ids_do_not_repeat() -> None:
    """Ids minted within the same millisecond differ."""
    assert len({new_message_id() for _ in range(20_000)}) == 20_000


def test_a_minted_id_is_recognised() -> None:
    """What is minted passes the check that untrusted headers must pass."""
    assert all(is_message_id(new_message_id()) for _ in range(1_000))


@given(st.text(max_size=60))
def test_only_uuids_are_recognised(text: str) -> None:
    """Text from outside counts as an id only if the standard library reads the same characters as a UUID."""
    if is_message_id(text):
        assert str(uuid.UUID(text)) == text


def test_near_misses_are_not_ids() -> None:
    """Upper case, wrong lengths and misplaced dashes are not ids."""
    good = "018f0000-0000-7000-8000-00000000000a"
    assert is_message_id(good)
    for bad in (good.upper(), good[:-1], good + "0", good.replace("-", "0"), "0" * 36, ""):
        assert not is_message_id(bad)
