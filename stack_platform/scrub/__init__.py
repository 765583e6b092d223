"""Find personal data and secrets in source text and rewrite them with stable surrogates."""
