"""Pictures of a graph: its boxes and lines, their layout, and the languages they are written in."""
