"""Which features at one place carry this answer?"""
