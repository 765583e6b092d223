"""How weights are stored: dense, bitsandbytes, torchao; and what training beside them needs."""
