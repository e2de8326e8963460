"""The choice of a node for each ready function, and of the time to send it there."""
