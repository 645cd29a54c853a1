"""What runs while the server is up."""
