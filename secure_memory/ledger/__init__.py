"""The append-only access audit log of one vault: an RFC 6962 Merkle tree over canonical JSON entries."""
