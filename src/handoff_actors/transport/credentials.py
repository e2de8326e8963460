"""The choice of the key that a process shows to others: a cluster's, else this user's own; none only if insecure."""

import os
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from handoff_actors.errors import InvalidKeyError
from handoff_actors.transport.keys import (
    ALSO_ACCEPT_VARIABLE,
    KEY_FILE_VARIABLE,
    KEY_VARIABLE,
    ClusterKey,
)
from handoff_actors.transport.user_key import user_key

INSECURE_VARIABLE: Final = "HANDOFF_INSECURE"
_MEANS: Final = {"": False, "0": False, "1": True}


class Credentials(Struct, frozen=True):
    """The key that a process was given to show to others, or its choice to show none."""

    #: None: the process was given no cluster key.
    cluster_key: ClusterKey | None = None
    #: True: the process uses no key, and accepts peers that use none.
    is_insecure: bool = False

    @classmethod
    def chosen(
        cls,
        key: ClusterKey | None = None,
        *,
        also_accept: ClusterKey | None = None,
        insecure: bool = False,
        environment: Mapping[str, str] = os.environ,
    ) -> "Credentials":
        """Choose by the arguments, or else by the environment. Raises InvalidKeyError, also for a key with insecure."""
        chosen = cls._of_one_key(key, insecure, environment)
        other = also_accept or ClusterKey.also_accepted_in(environment)
        if other is None:
            return chosen
        if chosen.cluster_key is None:
            raise InvalidKeyError(
                f"{other.origin} can be accepted only beside the cluster's key; give that, too, with --key-file, "
                f"{KEY_VARIABLE} or {KEY_FILE_VARIABLE}, or leave {ALSO_ACCEPT_VARIABLE} and --also-accept away"
            )
        return cls(chosen.cluster_key.accepting(other))

    @classmethod
    def _of_one_key(
        cls, key: ClusterKey | None, insecure: bool, environment: Mapping[str, str]
    ) -> "Credentials":
        if key is None:
            key = ClusterKey.from_environment(environment)
        elif not insecure:
            # The key was given to this process, and the variable is perhaps for others.
            return cls(key)
        is_insecure = insecure or _is_insecure(environment)
        if is_insecure and key is not None:
            raise InvalidKeyError(
                f"insecure means without a key, and there is one: {key.origin}. Leave one of the two away "
                f"({'the option' if insecure else INSECURE_VARIABLE}, or {KEY_VARIABLE} and {KEY_FILE_VARIABLE})"
            )
        return cls(key, is_insecure)

    def key(self) -> ClusterKey | None:
        """The key for this process's sockets; None if it is insecure. Raises InvalidKeyError, see `user_key`."""
        if self.is_insecure:
            return None
        return user_key() if self.cluster_key is None else self.cluster_key


def _is_insecure(environment: Mapping[str, str]) -> bool:
    text = environment.get(INSECURE_VARIABLE, "")
    try:
        return _MEANS[text]
    except KeyError:
        raise InvalidKeyError(f"{INSECURE_VARIABLE}={text!r}: it is 1, or 0 or nothing") from None
