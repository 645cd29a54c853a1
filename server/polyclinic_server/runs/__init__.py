"""Operators' runs and their folders."""
