"""One module per family of methods: their configurations, in PEFT's field names and defaults."""
