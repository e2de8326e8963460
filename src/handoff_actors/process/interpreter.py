"""The version of the Python that runs this process."""

import sys
from typing import Final

#: The minor version, "3.11": bytecode, and so code that is pickled by value, runs on no other.
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
