"""From voxels to targets: unit selection and ridge regression with voxel selection."""
