from handoff_actors.wire.messages.members import Advert


def advert(
    name: str,
    life: str = "1",
    seq: int = 1,
    *,
    view: int = 0,
    bus: str | None = None,
    rank: int | None = None,
) -> Advert:
    """An advert of a node in one of its lives."""
    return Advert(
        name=name,
        incarnation=f"{name}{life}",
        seq=seq,
        address=f"at-{name}",
        bus=bus or f"bus-{name}{life}",
        capabilities={},
        spare={},
        workers=1,
        running=0,
        queued=0,
        stored=0,
        leaving=False,
        view=view,
        version="1",
        python="3.11",
        rank=int(life) if rank is None else rank,
    )
