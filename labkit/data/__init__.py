"""Files -> clips -> batches: the course layout, packs, the simulated table, ClipDataset."""
