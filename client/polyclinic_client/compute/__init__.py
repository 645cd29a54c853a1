"""What is computed on patients: no ledger, no disk, no network."""
