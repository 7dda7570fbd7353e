"""How are dictionaries stored, by us and by other libraries?"""
