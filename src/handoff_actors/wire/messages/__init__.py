"""Every message that crosses a socket between members, and what its fields mean.

Messages are requests in the imperative (`Assign`) or facts in the past tense (`Completed`). They are msgspec
structs encoded as MessagePack arrays `[tag, field, ...]`; the decoder checks every type and bound, so what a
machine receives is well-formed whoever sent it. On the hot path one message carries many functions.
"""
