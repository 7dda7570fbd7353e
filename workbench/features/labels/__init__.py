"""What does a feature mean, and how well does the label hold?"""
