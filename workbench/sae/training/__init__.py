"""How is a dictionary learned: one loop, in one process or many?"""
