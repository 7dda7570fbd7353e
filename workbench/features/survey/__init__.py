"""What is in the dictionary as a whole?"""
