"""Which features does a person keep, and what do they note of each?"""
