"""Where the rooms of the data wing meet: the index of all paths and the stages from raw to scrubbed."""
