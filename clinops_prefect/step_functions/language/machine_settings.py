"""What AWS would refuse in the settings of a state machine: logging, tags, alias and KMS key."""

import re
from typing import Any

# At least one character is not a digit: an alias of digits only would look like a version.
ALIAS = "(?=.*[a-zA-Z_.-])[a-zA-Z0-9_.-]{1,80}"
KMS_KEY = "(arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:(key|alias)/.+|alias/.+|(mrk-)?[0-9a-fA-F-]{32,36})"
_LOG_LEVELS = ("ALL", "ERROR", "FATAL", "OFF")


def logging_problems(configuration: dict[str, Any]) -> list[str]:
    """Why AWS would refuse a `loggingConfiguration`."""
    level = configuration.get("level", "OFF")
    if not isinstance(level, str) or level not in _LOG_LEVELS:
        return [f"logging_configuration's level is {level!r}, and may be {', '.join(_LOG_LEVELS)}"]
    destinations = configuration.get("destinations") or []
    groups = [_log_group(destination) for destination in destinations] if isinstance(destinations, list) else []
    if level != "OFF" and len(groups) != 1:
        return ["logging_configuration must have exactly one destination"]
    return [f"logging_configuration's log group {arn!r} must end with ':*'" for arn in groups if not arn.endswith(":*")]


def _log_group(destination: Any) -> str:
    group = destination.get("cloudWatchLogsLogGroup") if isinstance(destination, dict) else None
    arn = group.get("logGroupArn") if isinstance(group, dict) else None
    return arn if isinstance(arn, str) else ""


def tag_problems(tags: dict[str, str]) -> list[str]:
    """Why AWS would refuse the tags: https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html."""
    problems = ["tags has more than 50 tags"] if len(tags) > 50 else []
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or key.lower().startswith("aws:") or len(value) > 256:
            problems.append(f"tags has {key!r}, whose key is too long or reserved, or whose value is too long")
    return problems


def alias_problems(alias: str) -> list[str]:
    """Why AWS would refuse an alias's name."""
    if not alias or re.fullmatch(ALIAS, alias):
        return []
    return [f"alias is {alias!r}, and may have letters, digits, '-', '_' and '.', up to 80, and not only digits"]


def key_problems(key: str) -> list[str]:
    """Why AWS would refuse a KMS key."""
    if not key or re.fullmatch(KMS_KEY, key):
        return []
    return [f"kms_key_id is {key!r}, and must be a key's ID or ARN, or an alias such as alias/clinops"]
