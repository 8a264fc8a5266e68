"""The miniature: simulated datasets in their own layouts, and the small models that stand for the real ones."""
