"""The consortium's side: the coordinator that asks hospitals and combines what they release."""
