"""How do texts become rows of tokens, activations, and shuffled batches?"""
