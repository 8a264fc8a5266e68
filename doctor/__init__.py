"""Look at everything that a run needs, and estimate what it will take: asks every room, and is imported by none."""
