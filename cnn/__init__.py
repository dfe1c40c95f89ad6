"""MNIST under a budget of parameters and epochs."""
