"""The words for variables and reasons in reports."""

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
_NAMES = {"spo2": "SpO₂", "ph": "pH", "pco2": "pCO₂", "po2": "pO₂"}


def label(variable: str) -> str:
    """A variable's name for readers: abbreviations in capitals, other names as words."""
    if variable in _NAMES:
        return _NAMES[variable]
    return variable.upper() if len(variable) <= 3 else variable.replace("_", " ").capitalize()


def in_text(variable: str) -> str:
    """A variable's name within a sentence: words in small letters."""
    known = label(variable)
    return known if variable in _NAMES or known.isupper() else known.lower()


def percent(share: float) -> str:
    """A share in percent. It has a decimal only near 0 % and 100 %."""
    return f"{100 * share:.0f} %" if share in (0, 1) or 0.0095 <= share <= 0.995 else f"{100 * share:.1f} %"
