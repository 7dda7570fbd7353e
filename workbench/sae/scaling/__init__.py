"""What does a larger dictionary or a longer training buy?"""
