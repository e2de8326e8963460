"""A node's side of its connections: who is admitted, and who follows it."""
