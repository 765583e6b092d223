"""Sealed, checksummed versions of the data set."""
