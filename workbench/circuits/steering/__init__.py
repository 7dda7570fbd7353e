"""What does the model say when a feature is clamped?"""
