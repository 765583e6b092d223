"""How functions run over tables: here, or wherever an engine takes them."""
