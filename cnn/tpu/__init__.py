"""A run compiled ahead of time for a TPU by libtpu, on a machine without one."""
