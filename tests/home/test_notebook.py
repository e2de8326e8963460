"""Notebooks, in a real kernel."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

pytestmark = [pytest.mark.processes, pytest.mark.timeout(120)]
