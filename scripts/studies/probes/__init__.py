"""Eight small tasks, one knob each, in which it is known what a mask can do and what it cannot."""
