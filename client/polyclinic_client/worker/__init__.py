"""The process that computes: it holds patients, and has nothing but a pipe to the node."""
