"""New keys for what is in use: the KEK, the store root, a vault's, a person's."""
