"""What a user can do wrong in folding."""

from repfold.errors import RepFoldError


class FoldError(RepFoldError):
    """The network cannot be folded as given, or the fold did not prove exact. Nothing is half-folded."""
