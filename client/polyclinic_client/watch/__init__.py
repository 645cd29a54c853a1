"""Watching a released model at one hospital: newer patients against the study's and the model's."""
