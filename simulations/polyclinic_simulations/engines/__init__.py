"""Engines that run the same ServerApp and ClientApp on one machine."""
