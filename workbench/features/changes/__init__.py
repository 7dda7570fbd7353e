"""What did tuning change?"""
