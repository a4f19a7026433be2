"""Patterns of names that end up in rulesets and configuration files of other programs.

None of them can end a word there: what does not match is refused, not escaped.
"""

INTERFACE = r"^[A-Za-z][A-Za-z0-9_-]{0,14}$"  # IFNAMSIZ is 16, with its NUL
MAC = r"^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$"  # lower case; the even second digit: one machine's
DIGEST = r"^[0-9a-f]{64}$"
OPTIONAL_DIGEST = r"^([0-9a-f]{64})?$"
