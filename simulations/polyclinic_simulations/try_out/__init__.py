"""A whole consortium on this machine, made by typing its commands: `polyclinic try`."""
