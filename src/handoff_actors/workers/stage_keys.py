"""The hash of a key, by which items of a stream are given to the workers of a stage: equal in all processes for equal keys."""

from typing import Final

#: Hashes are below it, so that they fit a signed integer of 64 bits.
_END: Final = 1 << 63
_NBYTES: Final = 8


def key_hash(key: object) -> int:
    """Return a number that is equal for equal keys, in every process. Never negative.

    Numbers that are equal whatever their type have one hash, as they are one key of a dict.
    """
    if isinstance(key, int):
        return key % _END
    if isinstance(key, float) and key.is_integer():
        return int(key) % _END
    if isinstance(key, str):
        return _digest(b"str", key.encode(errors="surrogatepass"))
    if isinstance(key, bytes):
        return _digest(b"bytes", key)
    # It takes milliseconds to import, and few streams have other keys.
    from handoff_actors.wire.digest import Digester  # noqa: PLC0415

    return _digest(b"other", Digester().digest(key))


def _digest(kind: bytes, encoded: bytes) -> int:
    # With OpenSSL it takes 3 ms to import, for which new workers would wait.
    from hashlib import blake2b  # noqa: PLC0415

    return int.from_bytes(blake2b(encoded, digest_size=_NBYTES, person=kind).digest(), "little") % _END
