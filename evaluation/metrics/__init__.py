"""Scores of pictures against the stimuli, whatever the dataset and whatever made them."""
