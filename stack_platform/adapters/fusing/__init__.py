"""LoRA on dense linear layers as one operation, for layers with the same input together."""
