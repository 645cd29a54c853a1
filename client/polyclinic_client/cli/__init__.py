"""The command `polyclinic client`."""
