"""Ways to have nodes on machines: over SSH, from a batch system, in containers."""
