"""From source code to models one may publish: the library, free of Dagster."""
