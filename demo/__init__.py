"""A page in the browser: the network by hand, a digit drawn, a run looked at."""
