"""Licenses: what a file is licensed under, what it inherits, and whether that is permissive."""
