"""What took long to compute, kept between processes.

Here live: the user's cache directory, and columns of numbers in it. Here must not live: files of
any format; what is kept goes by a key that its reader gives.
"""
