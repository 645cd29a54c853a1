"""What is written to disk for good: chained logs and the journal."""
