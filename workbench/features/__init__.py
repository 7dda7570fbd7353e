"""Observe: what each feature is. Nothing here imports circuits/: a feature's page opens without the model."""
