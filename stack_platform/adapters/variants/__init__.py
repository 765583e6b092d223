"""One module per way to change a layer, each a `Variant` of pure functions; `table` names them all."""
