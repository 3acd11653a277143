"""Evaluates a trained run and writes its numbers, figures, GIFs and report."""
