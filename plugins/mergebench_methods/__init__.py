"""The paper's merging methods (arXiv:2505.10833), one file each."""
