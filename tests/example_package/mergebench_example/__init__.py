"""A package of merging methods, laid out as anybody's would be."""
