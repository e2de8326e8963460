"""Decisions about the cluster: its members, the links to them, and transfers between them."""
