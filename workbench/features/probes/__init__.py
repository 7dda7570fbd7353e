"""Does a feature tell it better than a probe?"""
