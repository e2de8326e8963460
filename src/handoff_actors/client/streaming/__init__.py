"""Pipelines: streams as their users see them."""
