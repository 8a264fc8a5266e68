"""The Natural Scenes Dataset: pictures of MindDiffuser, its rivals and its controls."""
