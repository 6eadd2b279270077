"""What a network computes, in a closed vocabulary of operators: doors in, and the way back to a module."""
