"""The released model as one file: written, checked, read, and used for patients."""
