"""What holds the panes together on the one screen: where was a person, how is it made again in Python?"""
