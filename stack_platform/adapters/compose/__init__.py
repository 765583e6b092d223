"""Combining adapters into one: pure functions on their tensors; `combine` is the door."""
