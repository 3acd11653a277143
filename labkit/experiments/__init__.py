"""Questions put to several trainings at once, and runs held side by side."""
