import pytest

from handoff_actors.wire import messages
from handoff_actors.wire.messages.base import PROTOCOL
from handoff_actors.wire.messages.runs import Assign


def test_a_script_finds_messages_by_their_names_alone() -> None:
    assert (messages.Assign, messages.PROTOCOL) == (Assign, PROTOCOL)


def test_there_is_nothing_else_in_the_package() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        messages.Nothing  # noqa: B018
    assert not hasattr(messages, "_Nothing")
