"""The command `polyclinic server`."""
