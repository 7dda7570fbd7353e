"""Learn: sparse autoencoders, and how they are stored and trained."""
