"""Where top-5 accuracy is worth showing."""

TOP5_ABOVE = 10  # classes: five guesses among fewer say nothing
