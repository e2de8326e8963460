"""The base class of all messages, and types that their fields share."""

from typing import Annotated

from msgspec import Meta, Struct

#: Raised by one with each change that an older member could not understand.
PROTOCOL = 10

Count = Annotated[int, Meta(ge=0)]
Digest = Annotated[bytes, Meta(max_length=32)]
Name = Annotated[str, Meta(max_length=255)]
#: The id of a DAG as text, shortened.
DagName = Annotated[str, Meta(max_length=64)]


class Message(Struct, frozen=True, array_like=True, gc=False):
    """The base class of every message."""
