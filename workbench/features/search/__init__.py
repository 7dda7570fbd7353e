"""Which features do these prompts have in common?"""
