"""What do features do to the model's answer?"""
