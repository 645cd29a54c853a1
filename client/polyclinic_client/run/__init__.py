"""The answers of one hospital in one run."""
