"""A node's side of the actors."""
