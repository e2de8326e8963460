"""Which Python this is."""

import sys
from typing import Final

#: The minor version, "3.11": bytecode, and so code that is pickled by value, does not cross it.
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
