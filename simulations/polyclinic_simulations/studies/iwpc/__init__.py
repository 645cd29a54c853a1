"""Warfarin dose at sixteen hospitals of the International Warfarin Pharmacogenetics Consortium."""
