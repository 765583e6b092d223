"""Adapters as files: PEFT's layout, the hub, state dicts, vLLM, the Trainer's checkpoints."""
