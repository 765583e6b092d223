"""Software Heritage's model of source code: identifiers, the graph, and the sources that fill it."""
