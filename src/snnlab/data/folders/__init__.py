"""Recordings of one's own: a folder of files by class, read without a line of code.

Nothing is imported here: what is listed or refused does not wait for a reader.
"""
