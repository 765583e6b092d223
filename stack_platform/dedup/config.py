"""What counts as a near duplicate, and what a stored signature is made of."""

from dataclasses import asdict, dataclass
from math import ceil, sqrt

from stack_platform.errors import ConfigError

SCHEME = "affine32"  # datasketch 2's
TOKENS = "words-1"  # raised when the same text gives other shingles; part of a stored signature's meaning

_SLACK = 4.2  # standard errors by which an estimate may fall short of the threshold and still be verified


@dataclass(frozen=True, slots=True)
class NearDuplicateConfig:
    """What counts as a near duplicate and how hard to look for it.

    Attributes:
        threshold: least Jaccard similarity of a dropped file with its witness, 0 < t <= 1 (0.7: BigCode, The Stack v2)
        ngram: tokens in a shingle (5: BigCode, The Stack v2)
        num_perm: permutations of a signature, lanes (256: standard error 0.029 at the threshold)
        bands: bands of a signature (42: 99.5 % of the pairs at the threshold become candidates)
        rows: lanes in a band; bands * rows <= num_perm
        seed: of datasketch's permutations, 0 <= seed < 2**32
        min_tokens: files of fewer tokens are never near duplicates; at least ngram

    """

    threshold: float = 0.7
    ngram: int = 5
    num_perm: int = 256
    bands: int = 42
    rows: int = 6
    seed: int = 1
    min_tokens: int = 5

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if not 0 < self.threshold <= 1:
            raise ConfigError(
                f"threshold is {self.threshold}; write a similarity above 0 and at most 1, as 0.7"
            )
        for name in ("ngram", "num_perm", "bands", "rows"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; write a whole number of at least 1")
        if self.bands * self.rows > self.num_perm:
            raise ConfigError(
                f"{self.bands} bands of {self.rows} rows need {self.bands * self.rows} permutations, "
                f"num_perm is {self.num_perm}; raise num_perm or lower bands"
            )
        if not 0 <= self.seed < 1 << 32:
            raise ConfigError(f"seed is {self.seed}; write a whole number from 0 to 2**32 - 1")
        if self.min_tokens < self.ngram:
            raise ConfigError(
                f"min_tokens is {self.min_tokens}, but a shingle has ngram = {self.ngram} tokens; "
                f"write min_tokens={self.ngram} or more"
            )

    @property
    def least_equal(self) -> int:
        """How many equal lanes, of which 8 bits are kept, a pair needs to be worth an exact comparison."""
        equal = self.threshold + (1 - self.threshold) / 256  # b-bit minwise hashing, Li and König 2010
        slack = _SLACK * sqrt(equal * (1 - equal) / self.num_perm)
        return max(0, ceil((equal - slack) * self.num_perm))

    @property
    def meaning(self) -> dict[str, float | str]:
        """Everything that a stored signature or decision depends on."""
        return {"scheme": SCHEME, "tokens": TOKENS, **asdict(self)}
