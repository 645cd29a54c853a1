"""Everything that leaves a hospital, and when."""
