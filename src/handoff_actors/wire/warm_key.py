"""Make the key of an object of `per_worker`: the same wherever the same object is asked for, by an app or by a function's graph."""

from collections.abc import Mapping
from hashlib import blake2b

from handoff_actors.wire.messages.jobs import TemplateEnvironment


def warm_key(
    session: str, made: bytes, environment: TemplateEnvironment | None, cost: Mapping[str, float]
) -> bytes:
    """Return the key of what code makes; `made` is the digest of that and its arguments."""
    variables = [] if environment is None else sorted(environment.variables.items())
    directory = b"" if environment is None else environment.directory
    digest = blake2b(made, digest_size=16, person=b"per_worker")
    digest.update(repr((session, variables, directory, sorted(cost.items()))).encode())
    return digest.digest()
