"""Other systems, on the same voxels and the same images."""
