"""How a run went: what each function's time went into, as tables, traces and pictures."""
