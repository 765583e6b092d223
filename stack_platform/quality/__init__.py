"""Measures of files and the cut-offs on them: quality signals, decontamination, malware, caps per language."""
