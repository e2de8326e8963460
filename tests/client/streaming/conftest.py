from tests.processes.conftest import app

__all__ = ["app"]
