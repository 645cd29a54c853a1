"""Migrations of the store's schema, in order."""
