"""Git repositories as a source, with their history, and questions to that history."""
