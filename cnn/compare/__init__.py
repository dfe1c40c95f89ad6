"""Two finished runs held against each other: is the difference more than chance?"""
