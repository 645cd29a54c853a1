"""Studies that a hospital has looked at, frozen tables, and prices."""
