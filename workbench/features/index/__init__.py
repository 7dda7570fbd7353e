"""What does each feature fire on? One pass over a corpus, kept on disk, seen as pages."""
