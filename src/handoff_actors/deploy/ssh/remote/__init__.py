"""The agent: the part of `handoff up`, `down` and `logs` that runs on the other machine.

Its modules are sent there as text, since that machine may have no handoff_actors, or another version. So they import only
one another and the standard library of Python 3.11. See `deploy/ssh/agent_source.py`.
"""
