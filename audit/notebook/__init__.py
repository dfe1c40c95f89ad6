"""A submission in PyTorch, a notebook or a .py file, read without running any of it."""
