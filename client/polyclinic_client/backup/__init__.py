"""Rows of the ledger, sealed for this hospital alone and kept by the server."""
