"""What runs would cost, before anything starts: downloads, disk, memory, evaluations, hours.

Estimates come from the track's cost table until this home has measured the same: then from its records.
"""
