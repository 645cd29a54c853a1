"""The released model as one file: what is in it, who signed it, and what a site trusts."""
