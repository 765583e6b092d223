"""The one Definitions object that Dagster loads."""

import dagster as dg

from assets.archive import file_index, software_heritage_graph
from assets.automation import JOBS, changed_sources, follow_snapshot, refresh_snapshot, schedules
from assets.checks import CHECKS
from assets.corpus import deduplicated, license_filtered, quality_filtered, raw_snapshot, scrubbed
from assets.models import merged_model, trained_adapter
from assets.releases import sealed_release
from resources.compute import ComputeResource
from resources.lake import LakeResource
from resources.models import ModelsResource
from resources.policies import PoliciesResource
from resources.source import SourceResource

defs = dg.Definitions(
    assets=[
        software_heritage_graph,
        file_index,
        raw_snapshot,
        license_filtered,
        quality_filtered,
        deduplicated,
        scrubbed,
        trained_adapter,
        merged_model,
        sealed_release,
    ],
    asset_checks=CHECKS,
    jobs=JOBS,
    schedules=[refresh_snapshot, *schedules(SourceResource().named())],
    sensors=[changed_sources, follow_snapshot],
    resources={
        "lake": LakeResource(),
        "source": SourceResource(),
        "compute": ComputeResource(),
        "models": ModelsResource(),
        "policies": PoliciesResource(),
    },
    executor=dg.in_process_executor,
)
