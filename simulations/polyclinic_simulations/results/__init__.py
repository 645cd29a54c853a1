"""What a simulation has found, and exact metrics."""
