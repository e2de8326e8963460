"""StageResults of a stage as rows: encoded, or written to the store where they are large, with the hashes of their keys."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from handoff_actors.errors import SerializationError
from handoff_actors.ids import Index
from handoff_actors.retry_on import reason_against_retry
from handoff_actors.text import type_name_of
from handoff_actors.wire.messages.stage_rows import FailureRow, ValueRow
from handoff_actors.wire.payload import Payload, encode
from handoff_actors.wire.pickling import pickled_small
from handoff_actors.workers.child.evaluation import failure, is_growth
from handoff_actors.workers.child.stage.channel import StageChannel
from handoff_actors.workers.stage_keys import key_hash
from handoff_actors.workers.stage_protocol import first_index
from handoff_actors.workers.stage_spec import StageSpec


class StageResults:
    """Encodes the results of one lane, and describes its failures."""

    def __init__(self, spec: StageSpec, channel: StageChannel) -> None:
        self._spec = spec
        self._channel = channel
        _, index, attempt = channel.key
        self._next_index = first_index(index, attempt)
        #: Index and size of each value stored since these were last taken.
        self._stored: list[tuple[Index, int]] = []

    def value(self, result: Any) -> ValueRow:
        """Encode a result. Raises SerializationError, StoreFailed."""
        encoded = pickled_small(result)
        if encoded is not None:
            # Where the code does next to nothing this is most of what an item costs.
            return encoded
        if is_growth(result):
            raise SerializationError(
                f"stage {self._spec.name} returned {result!r}: only functions of runs return one"
            )
        payload = self._encoded(result)
        if payload.nbytes <= self._channel.inline_limit:
            return payload.to_bytes()
        run, _, attempt = self._channel.key
        index = self._next_index
        self._channel.store.write(run, index, attempt, payload)
        self._next_index += 1
        self._stored.append((index, payload.nbytes))
        return index, payload.nbytes

    def _encoded(self, result: Any) -> Payload:
        try:
            return encode(result)
        except SerializationError as error:
            if not isinstance(result, Iterator | AsyncIterator):
                raise
            # The app has to know before anything runs which stages are generators.
            reason = (
                f"stage {self._spec.name} returned an object of type {type_name_of(result)}, which can't travel: to give any number of results,"
                " let its code be a generator function itself, with yield in it; or return a list, which is one result"
            )
            raise SerializationError(reason) from error.__cause__

    def keys(self, result: Any) -> Sequence[int]:
        """Hash the keys of a result, for the stages that take it by key. Raises UserRaised, SerializationError."""
        call = self._channel.call
        return [call(_hash_of_key, (key, result)) for key in self._spec.keys]

    def take_stored(self) -> list[tuple[Index, int]]:
        """Drain what has been stored."""
        stored, self._stored = self._stored, []
        return stored

    def failure(self, error: BaseException) -> FailureRow:
        """Describe why an item has failed. Never raises."""
        return failure(error, self)

    def reason_against_retry(self, error: BaseException) -> str:
        """See RetryRule."""
        return reason_against_retry(self._spec.retry_on, error)


def _hash_of_key(key: Any, result: Any) -> int:
    return key_hash(key(result))
