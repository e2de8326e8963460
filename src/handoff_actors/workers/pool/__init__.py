"""The node's side of its worker processes."""
