"""The model and its training on one page each, written to be read; tested equal to the engine."""
