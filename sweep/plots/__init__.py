"""Figures, each in two phases: an info object that says what will be drawn, and the drawing of it."""
