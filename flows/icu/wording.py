"""The words for variables and reasons in reports."""

from collections.abc import Mapping
from typing import Any

REASON_TEXTS = {
    "not_in_catalogue": "not an item of the catalogue",
    "no_stay": "no ICU stay given",
    "unknown_stay": "a stay that is not in the cohort",
    "other_subject": "a stay of another patient",
    "unknown_subject": "a patient without a stay",
    "no_time": "no chart time",
    "no_number": "no number",
    "before_stay": "known before the stay began",
    "after_stay": "known after the stay ended",
    "outside_stays": "known while the patient was in no stay",
    "duplicate": "repeats a measurement",
    "entered_in_error": "entered in error",
    "superseded": "there is a later version",
    "no_result": "cancelled, or without a result yet",
    "unresolved_reference": "names no patient that can be told",
}
# The predicate of each reason in a sentence such as "578 of 578 rows …".
REASON_VERBS = {
    "no_stay": "name no stay",
    "unknown_stay": "name a stay that is not in the cohort",
    "other_subject": "name the stay of another patient",
    "unknown_subject": "are of patients without a stay",
    "no_time": "have no time",
    "no_number": "have no number",
    "before_stay": "fell before the stay",
    "after_stay": "fell after the stay",
    "outside_stays": "fell outside of a stay",
    "duplicate": "repeat a measurement",
}
# Abbreviations that a reader knows in this spelling; `_word` finds those without a vowel by itself.
_WORDS = {
    **{"spo2": "SpO₂", "sao2": "SaO₂", "fio2": "FiO₂", "etco2": "etCO₂", "pco2": "pCO₂", "po2": "pO₂", "ph": "pH"},
    **{"paco2": "PaCO₂", "pao2": "PaO₂", "co2": "CO₂", "o2": "O₂", "hco3": "HCO₃", "hba1c": "HbA1c", "egfr": "eGFR"},
    **{word: word.upper() for word in ("alp", "alt", "ast", "bun", "icp", "inr", "map", "peep", "aptt", "bnp", "crp")},
}
_VOWELS = frozenset("aeiouy")


def label(variable: str, own: str | None = None) -> str:
    """A variable's name for readers, for the beginning of a sentence, a row or a heading.

    Args:
        variable: The name, as in the columns.
        own: The label that the catalogue gives it, as it is written within a sentence.
    """
    text = in_text(variable, own)
    first = text.split(maxsplit=1)[0]
    # "pH" stays, also at the beginning.
    return text if any(letter.isupper() for letter in first) else text[:1].upper() + text[1:]


def unit_text(unit: str) -> str:
    """A unit for readers. UCUM writes 1 for a ratio, which has no unit: "INR 1.3 1" would confuse."""
    return "" if unit == "1" else unit


def in_text(variable: str, own: str | None = None) -> str:
    """A variable's name for readers within a sentence."""
    if own:
        return own
    words = [word for word in variable.split("_") if word]
    if len(words) == 1 and len(variable) <= 3:
        return _WORDS.get(variable, variable.upper())
    return " ".join(_word(word) for word in words) or variable


def labels(variables: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The label of each variable of a document."""
    return {name: label(name, variable.get("label")) for name, variable in variables.items()}


def _word(word: str) -> str:
    if word in _WORDS:
        return _WORDS[word]
    # A troponin's T, CK-MB, vitamin B12, GCS.
    is_short = len(word) == 1 or (len(word) <= 4 and not _VOWELS & set(word))
    return word.upper() if is_short and word[0].isalpha() else word


def percent(share: float) -> str:
    """A share in percent. It has a decimal only near 0 % and 100 %."""
    return f"{100 * share:.0f} %" if share in (0, 1) or 0.0095 <= share <= 0.995 else f"{100 * share:.1f} %"
