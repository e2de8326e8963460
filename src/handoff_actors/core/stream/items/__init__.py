"""The items of a stream: their order, their values, what is alive of them, and their results."""
