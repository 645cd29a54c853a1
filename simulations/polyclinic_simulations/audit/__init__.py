"""Attacks on what a study releases, run on one's own data to see what they would find."""
