"""NSD on disk, real or miniature: reading it, and turning betas into rows of voxels."""
