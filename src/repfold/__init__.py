"""RepFold: train rich, fold to plain, deploy fast."""

__version__ = "0.1.0"
