"""Inviting hospitals and publishing studies."""
