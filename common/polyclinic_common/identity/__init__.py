"""Keys, certificates, rosters and signed statements."""
