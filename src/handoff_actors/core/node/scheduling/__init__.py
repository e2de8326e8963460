"""The workers of a node: which of them runs which job next, and which are replaced."""
