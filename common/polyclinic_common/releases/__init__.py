"""Which releases a study makes, and what they cost."""
