"""The hospital's own view of where it stands."""
