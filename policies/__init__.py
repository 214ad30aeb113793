"""The policies that ship with secure-memory, as files. Installed as `secure_memory.policies`; nothing is run here."""
