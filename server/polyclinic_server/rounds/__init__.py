"""One run's mathematics and messages."""
