"""What decides about files: licenses, quality, duplicates, secrets."""

from pathlib import Path
from typing import cast

import dagster as dg
from pydantic import Field

from stack_platform.corpus.duplicates import DedupConfig
from stack_platform.corpus.stages import Policies
from stack_platform.dedup.preference import PreferenceConfig
from stack_platform.dedup.repositories import RepositoryConfig
from stack_platform.licenses.inherit import InheritConfig, InheritPolicy
from stack_platform.licenses.policy import LicenseConfig, read_policy
from stack_platform.quality.contamination import ContaminationConfig, pinned, read_config
from stack_platform.quality.judge import QualityConfig
from stack_platform.quality.malware import MalwareConfig
from stack_platform.quality.policy import load_policy
from stack_platform.scrub.policy import read_policy as read_scrub_policy
from stack_platform.scrub.redact import DEFAULT_KEY, ScrubConfig


class PoliciesResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Files of policies, and the settings that need no file; wrong values raise ConfigError."""

    licenses: str = Field(default="", description="TOML or JSON with keep, allow, deny; empty: permissive")
    inheritance: str = Field(default="nearest", description="nearest, union or strictest")
    quality: str = Field(default="", description="YAML of cut-offs and caps; empty: those of StarCoder2")
    contamination: str = Field(default="", description="YAML naming benchmarks to keep out; empty: none")
    malware: str = Field(default="off", description="off, if_installed or required (ClamAV)")
    prefer: str = Field(default="oldest", description="which of equal copies stays: oldest or newest")
    repository_overlap: float = Field(default=0.9, description="share of contents that makes a fork a copy")
    sensitivity: str = Field(default="balanced", description="permissive, balanced, strict or paranoid")
    scrub: str = Field(default="", description="YAML of thresholds, rules and allowances; its level wins")
    scrub_mode: str = Field(default="surrogate", description="surrogate, token or mask")
    scrub_scope: str = Field(
        default="release", description="equal surrogates in a file, repository or release"
    )
    scrub_key: str = Field(default="", description="secret of the surrogates, as EnvVar; empty: a public one")

    def open(self) -> Policies:
        """Read the policies."""
        benchmarks = read_config(Path(self.contamination)) if self.contamination else ContaminationConfig()
        return Policies(
            inheritance=InheritConfig(policy=cast("InheritPolicy", self.inheritance)),
            licenses=read_policy(Path(self.licenses)) if self.licenses else LicenseConfig(),
            quality=QualityConfig(
                load_policy(Path(self.quality) if self.quality else None),
                pinned(benchmarks),
                MalwareConfig(mode=self.malware),
            ),
            dedup=DedupConfig(PreferenceConfig(self.prefer), RepositoryConfig(self.repository_overlap)),
            scrub=ScrubConfig(
                self.sensitivity,
                self.scrub_mode,
                self.scrub_key.encode() or DEFAULT_KEY,
                self.scrub_scope,
                policy=read_scrub_policy(Path(self.scrub)) if self.scrub else None,
            ),
        )
