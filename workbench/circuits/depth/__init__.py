"""Through which layers and heads does the answer come?"""
