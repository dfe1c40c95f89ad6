"""What a run becomes on a TPU: compiled ahead of time by libtpu, on a machine without one."""
