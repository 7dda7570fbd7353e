"""Are these features needed, are they enough, and would any others do?"""
