"""Many cells: settings times seeds."""
