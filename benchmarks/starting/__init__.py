"""What does the start of an executor cost a script?"""
