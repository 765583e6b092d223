"""Every error the platform raises on purpose.

    StackError
    ├── ConfigError      a setting has a value nobody can use; the message says what to write instead
    ├── SourceError      source code could not be read from where it should be
    ├── SchemaError      a table lacks a column or holds a wrong type
    ├── TableError       the lake cannot give or take a partition
    │   └── ConflictError  somebody else committed the same partition first
    ├── PolicyError      a policy or a license expression makes no sense
    ├── ReleaseError     a release is missing, sealed already, or fails its verification
    ├── AdapterError     an adapter does not fit its model or its files
    └── ModelError       a base model cannot be loaded

A message says what happened, with the offending value, and what to do next. ConfigError and AdapterError are
ValueErrors too: scripts written for PEFT catch those.
"""


class StackError(Exception):
    """Root of all errors raised on purpose."""


class ConfigError(StackError, ValueError):
    """A setting has a value nobody can use."""


class SourceError(StackError):
    """Source code could not be read from where it should be."""


class SchemaError(StackError):
    """A table lacks a column or holds a wrong type."""


class TableError(StackError):
    """The lake cannot give or take a partition."""


class ConflictError(TableError):
    """Somebody else committed the same partition first."""


class PolicyError(StackError):
    """A policy or a license expression makes no sense."""


class ReleaseError(StackError):
    """A release is missing, sealed already, or fails its verification."""


class AdapterError(StackError, ValueError):
    """An adapter does not fit its model or its files."""


class ModelError(StackError):
    """A base model cannot be loaded."""
