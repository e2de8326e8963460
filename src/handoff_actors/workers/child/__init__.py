"""The processes that run user code: a zygote, and the workers that it forks."""
