"""The base of every task: flags, errors, the folder of a run and its report."""
