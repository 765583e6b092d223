"""The stages as Dagster assets: when, where and for which language; how is in the library."""
