"""What follows a hook point, for many changed rows at once?"""
