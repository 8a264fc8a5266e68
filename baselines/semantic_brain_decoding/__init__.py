"""Ferrante et al. 2022 (arXiv 2212.06726): labels of ImageNet from decoded features, and pictures from their names."""
