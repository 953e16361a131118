"""Bridge to mergekit: runs a mergekit configuration as a merging method."""
