"""The ICU features by loops and dictionaries: slow, and written from the definition alone.

Knows nothing of `flows`, nor of numpy or pandas. Times are `datetime`, null is None. What the fast steps return is
compared with what comes out here, to the row.
"""

import math
import unicodedata
from datetime import timedelta

REASONS = {
    "chartevents": (
        "not_in_catalogue",
        "no_stay",
        "unknown_stay",
        "other_subject",
        "no_time",
        "no_number",
        "before_stay",
        "after_stay",
        "duplicate",
    ),
    "labevents": ("not_in_catalogue", "unknown_subject", "no_time", "no_number", "outside_stays", "duplicate"),
}

# variable: (low, high, {item: "as is" | "fahrenheit" | "text"})
CATALOGUE = {
    "heart_rate": (1, 300, {211: "as is", 220045: "as is"}),
    "resp_rate": (1, 80, {615: "as is", 618: "as is", 220210: "as is", 224690: "as is"}),
    "spo2": (20, 100, {646: "as is", 220277: "as is"}),
    "sbp": (20, 300, dict.fromkeys((51, 455, 220050, 225309, 220179), "as is")),
    "dbp": (5, 200, dict.fromkeys((8368, 8441, 220051, 225310, 220180), "as is")),
    "map": (10, 250, dict.fromkeys((52, 456, 220052, 225312, 220181), "as is")),
    "temperature": (25, 45, {676: "as is", 223762: "as is", 678: "fahrenheit", 223761: "fahrenheit"}),
    "glucose": (10, 2000, dict.fromkeys((807, 811, 1529), "as is") | dict.fromkeys((220621, 225664, 226537), "text")),
}
# The laboratory, whose items have one unit each.
for _variable, _low, _high, *_items in (
    ("lactate", 0, 50, 50813),
    ("creatinine", 0, 30, 50912),
    ("bun", 0, 300, 51006),
    ("sodium", 80, 200, 50983, 50824),
    ("potassium", 0.5, 15, 50971, 50822),
    ("chloride", 50, 160, 50902, 50806),
    ("bicarbonate", 2, 60, 50882),
    ("calcium", 2, 20, 50893),
    ("magnesium", 0.2, 10, 50960),
    ("phosphate", 0.1, 25, 50970),
    ("albumin", 0.5, 7, 50862),
    ("bilirubin", 0, 100, 50885),
    ("alt", 0, 30_000, 50861),
    ("ast", 0, 50_000, 50878),
    ("alp", 0, 10_000, 50863),
    ("hemoglobin", 1, 25, 51222, 50811),
    ("hematocrit", 5, 75, 51221),
    ("platelets", 1, 3_000, 51265),
    ("wbc", 0, 500, 51301, 51300),
    ("inr", 0.5, 30, 51237),
    ("ptt", 10, 250, 51275),
    ("ph", 6.5, 8, 50820),
    ("pco2", 5, 200, 50818),
    ("po2", 10, 800, 50821),
):
    CATALOGUE[_variable] = (_low, _high, dict.fromkeys(_items, "as is"))
VARIABLE_OF = {item: variable for variable, (_, _, items) in CATALOGUE.items() for item in items}


def clean(rows, stays):
    """Return (events, dropped, per variable counts).

    rows: dicts of table, subject_id, stay_id, itemid, charttime, storetime, valuenum, valueuom.
    stays: {stay_id: (subject_id, intime, outtime)}.
    """
    dropped = {table: dict.fromkeys(reasons, 0) for table, reasons in REASONS.items()}
    keys = ("converted", "unknown_unit", "implausible", "usable", "no_storetime")
    what = {v: dict.fromkeys(keys, 0) for v in CATALOGUE}
    survivors = []
    for row in rows:
        if row["table"] == "labevents":
            row = {**row, "stay_id": stay_under_way(row, stays)}
            reason = lab_reason(row, stays)
        else:
            reason = row_reason(row, stays)
        if reason:
            dropped[row["table"]][reason] += 1
            continue
        variable = VARIABLE_OF[row["itemid"]]
        value, flags = usable_value(variable, row)
        for flag in flags:
            what[variable][flag] += 1
        survivors.append({**row, "variable": variable, "t": known_at(row), "value": value})
    measurements = {}
    for event in survivors:
        measurements.setdefault((event["stay_id"], event["charttime"], event["itemid"]), []).append(event)
    events = []
    for same in measurements.values():
        best = same[0]
        for other in same[1:]:
            if preference(other) < preference(best):
                best = other
        for other in same:
            if other is not best:
                dropped[other["table"]]["duplicate"] += 1
        events.append(best)
        if best["value"] is not None:
            what[best["variable"]]["usable"] += 1
            what[best["variable"]]["no_storetime"] += best["storetime"] is None
    return events, dropped, what


def row_reason(row, stays):
    if row["itemid"] not in VARIABLE_OF:
        return "not_in_catalogue"
    if row["stay_id"] is None:
        return "no_stay"
    if row["stay_id"] not in stays:
        return "unknown_stay"
    subject, intime, outtime = stays[row["stay_id"]]
    if row["subject_id"] != subject:
        return "other_subject"
    if row["charttime"] is None:
        return "no_time"
    if row["valuenum"] is None or not math.isfinite(row["valuenum"]):
        return "no_number"
    if known_at(row) < intime:
        return "before_stay"
    if outtime is not None and known_at(row) >= outtime:
        return "after_stay"
    return None


def lab_reason(row, stays):
    if row["itemid"] not in VARIABLE_OF:
        return "not_in_catalogue"
    if row["subject_id"] not in {subject for subject, _, _ in stays.values()}:
        return "unknown_subject"
    if row["charttime"] is None:
        return "no_time"
    if row["valuenum"] is None or not math.isfinite(row["valuenum"]):
        return "no_number"
    return "outside_stays" if row["stay_id"] is None else None


def stay_under_way(row, stays):
    if row["charttime"] is None:
        return None
    found = None
    for stay_id, (subject, intime, outtime) in stays.items():
        if subject != row["subject_id"] or known_at(row) < intime:
            continue
        if outtime is not None and known_at(row) >= outtime:
            continue
        if found is None or (intime, stay_id) > found:
            found = (intime, stay_id)
    return None if found is None else found[1]


def known_at(row):
    return row["charttime"] if row["storetime"] is None else max(row["charttime"], row["storetime"])


def usable_value(variable, row):
    low, high, items = CATALOGUE[variable]
    value, flags = row["valuenum"], []
    rule = items[row["itemid"]]
    if rule == "fahrenheit":
        value, flags = (value - 32) * 5 / 9, ["converted"]
    if rule == "text":
        text = unicodedata.normalize("NFKC", row["valueuom"] or "").lower()
        text = "".join(letter for letter in text if not letter.isspace())
        if text == "mmol/l":
            value, flags = value * 18.018, ["converted"]
        elif text != "mg/dl":
            return None, ["unknown_unit"]
    if not low <= value <= high:
        return None, [*flags, "implausible"]
    return value, flags


def preference(event):
    unusable = event["value"] is None
    # The table last, so that the account does not depend on the order of reading.
    return (unusable, event["t"], 0 if unusable else event["value"], event["table"])


def features(events, stays, window_hours, horizon_hours):
    """Return one dict per stay and window, sorted."""
    w = timedelta(hours=window_hours)
    result = []
    for stay_id in sorted(stays):
        subject, intime, outtime = stays[stay_id]
        number = horizon_hours // window_hours
        if outtime is not None:
            needed = 0
            while intime + needed * w < outtime:
                needed += 1
            number = min(number, max(1, needed))
        filled = {variable: [] for variable in CATALOGUE}
        for k in range(number):
            start, end = intime + k * w, intime + (k + 1) * w
            row = {"subject_id": subject, "stay_id": stay_id, "window": k, "window_start": start, "window_end": end}
            for variable in CATALOGUE:
                usable = [
                    e
                    for e in events
                    if e["stay_id"] == stay_id and e["variable"] == variable and e["value"] is not None
                ]
                inside = [e for e in usable if start <= e["t"] < end]
                recent = [e for e in usable if end - timedelta(hours=24) <= e["t"] < end]
                values = [e["value"] for e in inside]
                row[f"{variable}_mean"] = math.fsum(values) / len(values) if values else None
                row[f"{variable}_min"] = min(values) if values else None
                row[f"{variable}_max"] = max(values) if values else None
                row[f"{variable}_last"] = newest(inside)
                filled[variable].append(newest(inside) if inside else newest(recent))
                row[f"{variable}_filled"] = filled[variable][k]
                row[f"{variable}_lag1"] = filled[variable][k - 1] if k >= 1 else None
                row[f"{variable}_lag2"] = filled[variable][k - 2] if k >= 2 else None
                row[f"{variable}_count"] = len(values)
                row[f"{variable}_missing"] = 0 if values else 1
            result.append(row)
    return result


def newest(events):
    if not events:
        return None
    return max(events, key=lambda e: (e["t"], e["charttime"], -named(e["itemid"])))["value"]


def named(item):
    """Where the catalogue names an item: the earlier, the more it counts as last among equals."""
    return list(VARIABLE_OF).index(item)
