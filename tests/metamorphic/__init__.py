"""Right submissions of our own, rewritten harmlessly and with mistakes put in: what is said must follow."""
