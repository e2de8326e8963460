"""Nodes on machines that can be reached over SSH: `handoff up`, `handoff down` and `handoff logs`."""
