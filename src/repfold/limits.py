"""What files may claim: more no network or picture has, and a reader would spend hours or all memory on it."""

from __future__ import annotations

LARGEST_SIDE = 8192  # px of the square that a network sees
MOST_PIXELS = 178_956_970  # of a picture; where Pillow, too, begins to speak of a bomb
MOST_CLASSES = 1_000_000
MOST_CHANNELS = 65_536
LONGEST_NAME = 1000  # characters of the name of a class
LARGEST_TENSOR = 2**31  # values of a tensor that a graph makes
MOST_IMAGES = 65_536  # of a batch that is timed
LARGEST_COUNT = 2**40  # of whatever is counted and has no bound of its own
