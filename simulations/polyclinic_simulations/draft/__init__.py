"""Studies drafted from a table."""
