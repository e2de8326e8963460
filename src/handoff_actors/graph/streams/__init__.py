"""Graphs that items flow through."""
