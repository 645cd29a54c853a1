"""One seed's federation, and its training."""
