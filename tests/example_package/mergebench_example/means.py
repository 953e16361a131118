"""What the method imports from its own package."""


def mean(values):
    return sum(values) / len(values)
