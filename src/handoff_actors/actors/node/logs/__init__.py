"""The log of a node: its lines, their format, and how they get out."""
