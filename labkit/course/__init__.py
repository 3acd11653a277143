"""The coursework: the exercises' checks, and what the notebooks need beside the model."""
