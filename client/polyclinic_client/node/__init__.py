"""A hospital's node: one process that asks the server for messages and has them answered."""
