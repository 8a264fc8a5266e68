"""Generic Object Decoding: a rival's decoded labels, and the pictures that are made of them, beside its controls."""
