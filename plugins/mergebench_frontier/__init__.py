"""Merging methods published since the paper, one file each."""
