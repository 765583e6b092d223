"""Virtual tokens in front of a frozen model: prompt tuning, P-tuning, prefix tuning; `model` is the door."""
