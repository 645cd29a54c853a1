"""Privacy mechanisms and accounting: small pure functions, numbers in, numbers out."""
