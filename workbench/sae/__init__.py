"""What is a dictionary of features, and how well does it read a model?"""
