"""Survival after breast cancer in The Cancer Genome Atlas, six regions."""
