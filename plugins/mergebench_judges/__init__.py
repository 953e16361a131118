"""Judges that come with mergebench, one file each."""
