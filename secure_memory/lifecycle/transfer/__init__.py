"""Conversations in and out: the SDK's own databases imported, JSON Lines exported."""
