"""Which files leave because a better copy stays: exact copies by id, near copies by verified Jaccard."""
