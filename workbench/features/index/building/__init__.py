"""How is an index built? Texts through the model and the encoder, summaries of each feature, files."""
