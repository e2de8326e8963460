"""Transport of messages: links and services, over ZeroMQ or within one process."""
