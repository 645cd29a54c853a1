"""Model heads, their losses per patient, and how weights are stored."""

HUBER_KNEE = 0.25
"""Error on the [-1, 1] scale beyond which Huber's loss is linear."""
