"""Decisions about which ready function goes to which node, and when."""
