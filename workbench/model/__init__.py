"""A model, loaded and frozen: what runs before a hook point, and what runs after it?"""
