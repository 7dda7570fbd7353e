"""Act: what features do to the model's answer."""
