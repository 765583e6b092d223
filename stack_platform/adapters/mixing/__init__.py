"""Several adapters at once: active sets, rows of a batch with adapters of their own, a router, X-LoRA."""
