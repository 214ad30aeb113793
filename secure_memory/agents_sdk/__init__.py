"""The SDK's face of secure-memory: the only importers of `agents`."""
