"""One tenant's database: its sessions, items and ledger in one SQLCipher file."""
