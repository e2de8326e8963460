"""The nodes and runs of a cluster, as `handoff nodes` and `handoff top` show them."""
