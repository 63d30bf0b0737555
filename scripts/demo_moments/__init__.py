"""A page on which a video is asked for moments: the command `python -m scripts.demo_moments`."""
