"""What is each feature: active on what, meaning what? Nothing here imports circuits/: a page opens without the model."""
