"""The node's side of its worker processes: starts them, talks to them, reads their output."""
