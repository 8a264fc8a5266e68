"""Datasets on disk, real or simulated: reading them, and turning betas into rows of voxels."""
