"""What hospital and consortium say to each other: gRPC services, signed statements, studies."""
