"""From texts and a base model to an adapter, and from both to a merged model."""
