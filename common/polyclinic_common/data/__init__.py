"""The data contract: reading a hospital's table, checking it, encoding it to tensors."""
