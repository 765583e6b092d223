"""What language a file is written in, how its bytes decode, and whether people wrote it by hand."""
