"""Worker processes, which run user code and are forked from a warm zygote: messages, the pool, the processes."""
