"""A whole federation on one machine: the same client and server code, with honest baselines."""
