"""Private evaluation: what a held-out patient adds to a metric sum, and how the sum is read."""
