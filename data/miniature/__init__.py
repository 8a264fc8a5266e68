"""The miniature: a simulated NSD in NSD's own layout, and the small models trained for it."""
