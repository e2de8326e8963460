"""Machines of other clusters, Dask's and Ray's, as nodes of a session."""
