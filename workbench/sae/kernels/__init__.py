"""How does a training step touch the active entries only?"""
