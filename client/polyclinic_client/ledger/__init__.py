"""The privacy ledger: what every release of this hospital has cost, and what may still leave."""
