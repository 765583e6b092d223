"""One partition per language of the catalog, the same definition on every partitioned asset.

The list is static and versioned with the catalog. A range of languages runs as one run of up to 50 partitions,
because a run costs seconds and the library skips what has not changed.
"""

import warnings

import dagster as dg

from stack_platform.languages.catalog import language_names

LANGUAGES = dg.StaticPartitionsDefinition(list(language_names()))

warnings.filterwarnings("ignore", message="Parameter `backfill_policy`", category=dg.BetaWarning)
IN_BATCHES = dg.BackfillPolicy.multi_run(max_partitions_per_run=50)
