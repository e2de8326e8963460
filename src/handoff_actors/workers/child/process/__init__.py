"""The process around user code: what that may change in it, start from it and fork of it, while a worker stays itself."""
