"""How bytes move: links and services, over ZeroMQ or within one process."""
