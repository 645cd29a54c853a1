"""A hospital's side of the consortium: joining, calling the service, knowing its peers."""
