"""Model heads, their losses per patient, and how weights are stored."""
