"""The page at the bedside: one patient in, a prediction out; loopback alone, nothing is kept."""
