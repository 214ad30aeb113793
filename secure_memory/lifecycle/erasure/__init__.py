"""Erasing a conversation, a person, a tenant: keys first, then rows, then a search, then a certificate."""
