"""What took long to compute, kept between processes.

Contents: the user's cache directory, and columns of numbers in it. Not here: files of any format;
what is kept goes by a key that its reader gives.
"""
