"""Isolation: processes that run code nobody vouches for, at the strongest level that the machine gives.

`confinement`, `landlock`, `seccomp` and `probe` run inside, before the foreign code, on nothing but the standard
library; the other modules are the host's.
"""
