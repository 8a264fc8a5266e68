"""The shared ground of the stages: configuration, files, models on disk, seeds and the command line."""
