"""The catalogue: its content, and the messages with which invalid catalogues are refused."""

from pathlib import Path

import numpy as np
import pytest

from flows.icu.catalogue import CatalogueError, fold_text, load_catalogue
from flows.icu.units import UnitTable
from flows.sources.fhir_table import load_fhir_table

HEART = '[heart_rate]\nunit = "bpm"\nplausible = [1, 300]\nitems = [211]\n'


def load(tmp_path: Path, text: str):
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    return load_catalogue(path)


def test_the_default_has_the_variables_in_the_order_of_the_columns():
    vitals = "heart_rate resp_rate spo2 sbp dbp map temperature glucose"
    labs = "lactate creatinine bun sodium potassium chloride bicarbonate calcium magnesium phosphate albumin bilirubin "
    labs += "alt ast alp hemoglobin hematocrit platelets wbc inr ptt ph pco2 po2"
    assert load_catalogue().names == [*vitals.split(), *labs.split()]


def test_the_default_has_every_item_of_the_definition_and_those_of_the_fhir_table():
    variables = load_catalogue().variables
    loinc = {item for variable in variables for item in variable.items if item > 10**9}
    assert loinc == set(load_fhir_table().items.values())
    items = {variable.name: set(variable.items) - loinc for variable in variables}
    assert items == {
        "heart_rate": {211, 220045},
        "resp_rate": {615, 618, 220210, 224690},
        "spo2": {646, 220277},
        "sbp": {51, 455, 220050, 225309, 220179},
        "dbp": {8368, 8441, 220051, 225310, 220180},
        "map": {52, 456, 220052, 225312, 220181},
        "temperature": {676, 223762, 678, 223761},
        "glucose": {807, 811, 1529, 220621, 225664, 226537},
        "lactate": {50813},
        "creatinine": {50912},
        "bun": {51006},
        "sodium": {50983, 50824},
        "potassium": {50971, 50822},
        "chloride": {50902, 50806},
        "bicarbonate": {50882},
        "calcium": {50893},
        "magnesium": {50960},
        "phosphate": {50970},
        "albumin": {50862},
        "bilirubin": {50885},
        "alt": {50861},
        "ast": {50878},
        "alp": {50863},
        "hemoglobin": {51222, 50811},
        "hematocrit": {51221},
        "platelets": {51265},
        "wbc": {51301, 51300},
        "inr": {51237},
        "ptt": {51275},
        "ph": {50820},
        "pco2": {50818},
        "po2": {50821},
    }


def test_the_items_are_in_the_order_in_which_the_file_names_them(tmp_path):
    text = '[t]\nunit = "C"\nplausible = [1, 9]\nitems_by_text = [5]\nitems_in = { "F" = [7, 4] }\nitems = [6, 1]\n'
    (variable,) = load(tmp_path, text + 'units."F" = { divide = 2 }\n').variables
    assert list(variable.items) == [5, 7, 4, 6, 1]


def test_a_catalogue_may_have_any_number_of_variables(tmp_path):
    text = "".join(f'[v{n}]\nunit = "u"\nplausible = [0, 9]\nitems = [{n + 1}]\n' for n in range(300))
    units = UnitTable(load(tmp_path, text))
    position, known = units.find_items(np.array([1, 129, 300]))
    assert known.all()
    assert units.variable[position].tolist() == [0, 128, 299]


def test_a_users_catalogue_extends_the_default(tmp_path):
    default = (Path(__file__).parents[3] / "flows/icu/catalogue.toml").read_text(encoding="utf-8")
    own = default + '\n[troponin]\nunit = "ng/mL"\nplausible = [0, 99]\nitems = [51003]\n'
    catalogue = load(tmp_path, own)
    assert catalogue.names[-1] == "troponin"
    assert 51003 in catalogue.item_ids
    assert catalogue.sha256 != load_catalogue().sha256


@pytest.mark.parametrize(
    "texts",
    [("mg/dL", " MG / DL "), ("\u00b5g", "\u03bcG"), ("mg\u00a0/dL", "mg/dL"), ("°C", "° c")],
    ids=["case and spaces", "micro sign and mu", "no-break space", "degree"],
)
def test_texts_are_compared_without_regard_to_case_spaces_and_lookalike_signs(texts):
    assert fold_text(texts[0]) == fold_text(texts[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no variable"),
        ("[heart_rate", "is not TOML"),
        ("heart_rate = 1", "heart_rate: has to be a table"),
        (HEART.replace("heart_rate", "Heart-Rate"), "'Heart-Rate'"),
        (HEART.replace("items", "itms"), "unknown key itms; did you mean items"),
        (HEART.replace('unit = "bpm"\n', ""), "heart_rate: unit has to be a text"),
        (HEART.replace("[1, 300]", "[300, 1]"), "low 300, which is not below high 1"),
        (HEART.replace("[1, 300]", "[1, nan]"), "plausible has to be a finite number"),
        (HEART.replace("[1, 300]", "[1]"), r"plausible has to be \[low, high\]"),
        (HEART.replace("[211]", "[211, 211]"), "item 211 is listed twice"),
        (HEART.replace("[211]", '["211"]'), "which is not an item id"),
        (HEART.replace("[211]", "[true]"), "which is not an item id"),
        (HEART.replace("[211]", "211"), "items has to be a list"),
        (HEART.replace("[211]", "[]"), "heart_rate: no items"),
        (HEART + HEART.replace("heart_rate", "pulse"), "item 211 is in two variables, heart_rate and pulse"),
        (HEART + 'items_in = { "Hz" = [5] }', "units has no conversion from Hz"),
        (HEART + 'units."Hz" = { multipl = 60 }', "unit Hz: unknown key multipl; did you mean multiply"),
        (HEART + 'units."Hz" = { divide = 0 }', "multiply and divide cannot be 0"),
        (HEART + 'units."Hz" = { texts = ["BPM"] }', "the text 'bpm' means both bpm and Hz"),
        (HEART + "label = 7", "heart_rate: label has to be a text"),
        (HEART + 'label = " "', "heart_rate: label has to be a text"),
        (HEART + 'units."bpm" = { multiply = 2 }', "canonical unit and cannot have a conversion"),
    ],
)
def test_the_error_names_what_is_wrong(tmp_path, text, message):
    with pytest.raises(CatalogueError, match=message):
        load(tmp_path, text)
