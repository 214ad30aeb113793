"""What is due: found, planned, deleted, redacted, archived."""
