"""What the numbers of a weight in few bits cannot be."""


class Unfit(ValueError):
    """Said of a weight, after its name: "has a scale below 0"."""
