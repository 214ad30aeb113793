"""`make bench`: secure-memory against the SDK's own sessions and a raw SQLCipher loop, side by side in one run."""
