"""The secure sum: identities, masks, the chain of attempts and its closing (docs/protocol.md)."""
