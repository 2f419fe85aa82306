"""The formats of image files, a reader for each: what a header claims is held against the file and the memory before a voxel is read.

A reader has ``read`` and ``memory``, of a path, and raises an ``ImageError`` for what is missing, damaged or not read.
"""
