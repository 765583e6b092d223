"""The commands of `stack-platform`: each is one library call and a way to print what it gives."""
