"""A token bucket: limits a rate, but lets bursts through."""


class TokenBucket:
    """Tokens that refill at `rate` per second, up to `burst`; the bucket begins full. Times are monotonic seconds."""

    __slots__ = ("_burst", "_rate", "_refilled_at", "_tokens")

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = burst
        self._refilled_at = now

    def tokens(self, now: float) -> float:
        """Refill the bucket, and give the tokens in it: below zero after an overdraft."""
        self._tokens = min(self._burst, self._tokens + (now - self._refilled_at) * self._rate)
        self._refilled_at = now
        return self._tokens

    def take(self, amount: float, now: float) -> bool:
        """Take tokens, unless there are fewer; then none are taken."""
        if self.tokens(now) < amount:
            return False
        self._tokens -= amount
        return True

    def overdraw(self, amount: float) -> None:
        """Take tokens even if there are fewer, for what has been spent already."""
        self._tokens -= amount
