"""Who makes whom, through all layers?"""
