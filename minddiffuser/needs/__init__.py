"""The words in which each room says what it needs, and the doctor asks: they know no room.

A room's `needs.py` has a `Room` (findings.py): what must be there, as checks of one line each, and what it takes, as
rows (rows.py). Rooms above may ask those below; a check that was made is not made again.
"""
