"""Copies of a store in use, in two sets, and putting one together from them."""
