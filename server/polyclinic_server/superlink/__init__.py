"""Flower's SuperLink, hosted by the server: listeners, nodes, runs."""
