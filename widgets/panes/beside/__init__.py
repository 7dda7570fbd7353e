"""What is set side by side: a second prompt beside the first, which kept features beside each other?"""
