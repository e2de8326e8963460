"""The service with one open run for all requests, with a real server and clients that hang up."""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from tests.examples.programs import running
from tests.examples.test_fastapi_service import ENDLESS, SHORT, address_of

pytestmark = pytest.mark.processes


async def test_requests_share_a_run_that_outlives_those_who_hang_up(tmp_path: Path) -> None:
    with running("fastapi_calls.py", "--port", "0", directory=tmp_path) as service:
        async with httpx.AsyncClient(base_url=address_of(service), timeout=20) as client:
            answers = await asyncio.gather(*(client.post("/estimates", json=SHORT) for _ in range(8)))
            with pytest.raises(httpx.ReadTimeout):
                # Its calls take all cores, for ever if they went on.
                await client.post("/estimates", json=ENDLESS, timeout=0.5)
            late = await client.post("/estimates", json=SHORT)
            refused = await client.post("/estimates", json={"samples": 0})
            health = await client.get("/health")

        assert [answer.json()["answer"] for answer in [*answers, late]] == pytest.approx([3.14] * 9, abs=0.1)
        assert refused.status_code == 422
        assert health.json() == {"is_open": True}
        assert service.terminate() == -signal.SIGTERM
        assert service.leftovers() == []
        assert "Traceback" not in service.output()
