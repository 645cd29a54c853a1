"""Example patches, one a seam, each applied to a copy of the packages and run end to end."""
