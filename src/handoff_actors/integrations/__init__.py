"""Interfaces of other libraries, for programs that already use these. Each is one module, imported when it is used."""
