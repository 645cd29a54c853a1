"""The command `polyclinic simulate`."""
