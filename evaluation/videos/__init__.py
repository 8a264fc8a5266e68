"""CC2017: films of Mind-Animator, beside its controls and other people's films."""
