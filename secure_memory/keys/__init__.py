"""The keys: where the key-encryption keys come from, and the hierarchy that stands under them."""
