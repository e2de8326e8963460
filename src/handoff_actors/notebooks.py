"""The notebook that this process may be the kernel of."""

import sys
from typing import Any


def notebook_shell() -> Any:
    """Return IPython's shell if cells of a notebook run in this process; None in any other program, terminals included."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    # Hosted notebooks have shells of their own, which derive from the kernel's.
    is_kernel = any(kind.__name__ == "ZMQInteractiveShell" for kind in type(shell).__mro__)
    return shell if is_kernel else None
