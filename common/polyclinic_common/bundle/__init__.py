"""The released model as one file: written, checked, described, and asked about patients."""
