"""Where user code runs: processes forked from a warm zygote."""
