"""The machine or container that a node is on, and whoever starts and stops it there."""
