import pyarrow as pa
import pytest


@pytest.fixture
def make_batch():
    """Make a batch of files: texts, and a language and path for all or for each."""

    def make(texts, language="Python", path="src/main.py", **columns):
        n = len(texts)
        languages = language if isinstance(language, list) else [language] * n
        paths = path if isinstance(path, list) else [path] * n
        sizes = [len((text or "").encode()) for text in texts]
        return pa.record_batch(
            {
                "language": pa.array(languages, pa.string()),
                "path": pa.array(paths, pa.string()),
                "content": pa.array(texts, pa.large_string()),
                "length_bytes": pa.array(sizes, pa.int64()),
                **columns,
            }
        )

    return make
