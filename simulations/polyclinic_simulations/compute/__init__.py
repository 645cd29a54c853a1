"""Gradients without Opacus, and training without privacy."""
