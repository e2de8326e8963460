"""Interfaces that people already write against. Each is one module, imported when it is used."""
