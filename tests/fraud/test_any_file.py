"""Files as they come, made from real rows: each is read without an option beyond --label."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from real_data import real_data

import experiments.fraud.__main__ as fraud
import experiments.score.__main__ as score
from experiments.command_line import UsageError, run
from experiments.fraud.config import FraudConfig
from experiments.fraud.inputs import Inputs, kinds_table, left_out_recipes, notices, prepare

ROWS = 1_200


@pytest.fixture(scope="module")
def claims() -> pd.DataFrame:
    """Insurance claims as text, the frauds among them first."""
    frame = pd.read_csv(real_data("claims/fraud_oracle.csv"), dtype=str, encoding="utf-8-sig")
    return frame.sort_values("FraudFound_P", ascending=False, kind="stable").head(ROWS).reset_index(drop=True)


@pytest.fixture(scope="module")
def payments(real_transactions: Path) -> pd.DataFrame:
    """Card transactions of a few columns, the frauds among them first."""
    frame = pd.read_csv(real_transactions, usecols=["V1", "V2", "Amount", "Class"])
    return frame.sort_values("Class", ascending=False, kind="stable").head(ROWS).reset_index(drop=True)


def read(path: Path, label: str, **options) -> Inputs:
    return prepare(FraudConfig(data=str(path), label=label, **options))


CLAIMS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "BOM": lambda frame, path: frame.to_csv(path, index=False, encoding="utf-8-sig"),
    "UTF-16": lambda frame, path: frame.to_csv(path, index=False, encoding="utf-16", sep="\t"),
    "unnamed index": lambda frame, path: frame.to_csv(path),
    "trailing delimiter": lambda frame, path: path.write_text(
        "".join(f"{line};\n" for line in frame.to_csv(index=False, sep=";").splitlines())
    ),
    "words for labels": lambda frame, path: frame.assign(
        FraudFound_P=frame["FraudFound_P"].map({"0": "genuine", "1": "fraud"})
    ).to_csv(path, index=False),
    "20-digit id": lambda frame, path: frame.assign(
        PolicyNumber=[f"{90071992547409920000 + 7 * i}" for i in range(ROWS)]
    ).to_csv(path, index=False),
    "spaces around cells": lambda frame, path: path.write_text(frame.to_csv(index=False).replace(",", ", ")),
}


@pytest.mark.parametrize("how", CLAIMS)
def test_claims_in_any_dress_are_the_same_table(how, claims, tmp_path):
    path = tmp_path / "claims.csv"
    CLAIMS[how](claims, path)
    found = read(path, "FraudFound_P")
    claims.to_csv(tmp_path / "plain.csv", index=False)
    plain = read(tmp_path / "plain.csv", "FraudFound_P")
    np.testing.assert_array_equal(found.table.labels, plain.table.labels)
    np.testing.assert_array_equal(found.x, plain.x)
    assert "PolicyNumber" not in found.schema.modelled
    assert found.schema["Make"].kind == "category"


def test_claims_from_excel_and_parquet_are_the_same_table(claims, tmp_path):
    claims.to_csv(tmp_path / "claims.csv", index=False)
    typed = pd.read_csv(tmp_path / "claims.csv")
    typed.to_excel(tmp_path / "claims.xlsx", index=False)
    typed.astype({"Make": "category", "Age": "Int64"}).to_parquet(tmp_path / "claims.parquet")
    plain, excel, parquet = (read(tmp_path / f"claims.{kind}", "FraudFound_P") for kind in ("csv", "xlsx", "parquet"))
    np.testing.assert_array_equal(excel.x, plain.x)
    np.testing.assert_array_equal(parquet.x, plain.x)


PAYMENTS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "semicolons with decimal commas": lambda frame, path: frame.to_csv(path, index=False, sep=";", decimal=","),
    "thousands": lambda frame, path: frame.assign(Amount=frame["Amount"].map("{:,.2f}".format)).to_csv(
        path, index=False
    ),
    "dollar signs": lambda frame, path: frame.assign(Amount=frame["Amount"].map("${:,.2f}".format)).to_csv(
        path, index=False
    ),
    "points for thousands": lambda frame, path: frame.assign(
        Amount=[f"{amount:,.2f} €".translate(str.maketrans(",.", ".,")) for amount in frame["Amount"]]
    ).to_csv(path, index=False, sep=";", decimal=","),
}


@pytest.mark.parametrize("how", PAYMENTS)
def test_numbers_in_any_dress_are_numbers_alone(how, payments, tmp_path):
    path = tmp_path / "payments.csv"
    PAYMENTS[how](payments, path)
    found = read(path, "Class")
    assert found.schema is None
    np.testing.assert_array_equal(found.table.features, payments[["V1", "V2", "Amount"]])
    np.testing.assert_array_equal(found.table.labels, payments["Class"])


@pytest.mark.parametrize("gap", ["NA", "", "?"])
def test_gaps_are_gaps(gap, payments, tmp_path):
    path = tmp_path / "payments.csv"
    holed = payments.astype({"V2": object})
    holed.loc[::10, "V2"] = gap
    holed.to_csv(path, index=False)
    found = read(path, "Class")
    assert [column.kind for column in found.schema.columns] == ["real", "real", "real"]
    assert np.isnan(found.x).mean() == pytest.approx(1 / 30)
    assert left_out_recipes(FraudConfig(), found) == [
        "The report recipe is for finite numbers alone, so only gaussian is trained."
    ]
    assert left_out_recipes(FraudConfig(recipes=("report", "gaussian", "exemplar")), found) == [
        "The report recipe is for finite numbers alone, so only gaussian and exemplar are trained."
    ]


def test_dates_are_parts_of_dates(payments, tmp_path):
    path = tmp_path / "payments.csv"
    days = pd.Timestamp("2026-01-31 08:00") + pd.to_timedelta(np.arange(ROWS) * 5, "h")
    payments.assign(when=days.strftime("%d.%m.%Y %H:%M")).to_csv(path, index=False)
    found = read(path, "Class")
    assert [part.what for part in found.schema["when"].parts] == ["hour", "weekday", "month", "elapsed"]


def test_kinds_that_are_said_are_used(claims, tmp_path):
    path = tmp_path / "claims.csv"
    claims.to_csv(path, index=False)
    found = read(path, "FraudFound_P", category=("Age",), number=("Deductible",), drop=("Make",), id=("Year",))
    assert [found.schema[name].kind for name in ("Age", "Deductible", "Year")] == ["category", "real", "id"]
    assert "Make" not in found.table.feature_names
    shown = kinds_table(found)
    assert shown.row_count == 31
    few, left_out = notices(found)[:2]
    assert few.startswith("Few validation rows: ")
    assert left_out.startswith("Left out: PolicyNumber (id: ")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"label": "Fraud"}, "--label Fraud: no such column; there are Month, "),
        ({"count": ("Make",)}, "row 0 (line 2), column Make: 'Honda' is not a number"),
        ({"number": ("Brand",)}, "--number Brand: no such column"),
        ({"recipes": ("report",)}, "--recipes report: for finite numbers alone; this table has others or gaps, so use"),
        ({"decimal": ";"}, "--decimal ';': expected '.' or ','"),
        ({"label": "Fault"}, "column Fault has the labels "),
    ],
)
def test_what_can_not_be_used_is_one_line(options, expected, claims, tmp_path):
    path = tmp_path / "claims.csv"
    claims.sort_values("PolicyNumber").assign(Make="Honda").to_csv(path, index=False)
    with pytest.raises(UsageError) as refused:
        read(path, **{"label": "FraudFound_P", **options})
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_word_among_numbers_is_named_and_not_taken_for_a_category(payments, tmp_path):
    path = tmp_path / "payments.csv"
    spoiled = payments.astype({"V2": object})
    spoiled.loc[7, "V2"] = "abc"
    spoiled.to_csv(path, index=False)
    with pytest.raises(UsageError, match=r"row 7 \(line 9\), column V2: 'abc' is not a number"):
        read(path, "Class")


def test_a_row_has_the_number_that_score_gives_it(tmp_path):
    rows = [f"{i}.5,{7 * i % 31},{int(i % 50 == 0)}" for i in range(300)]
    rows[3:3], rows[100:100], rows[200:200] = [""], [",,"], [" , ,"]
    (tmp_path / "payments.csv").write_text("\n".join(["a,b,label", *rows]) + "\n")
    options = ["--label", "label", "--epochs", "1", "--recipes", "gaussian", "--run-dir", str(tmp_path / "run")]
    assert run(fraud.main, ["--data", str(tmp_path / "payments.csv"), *options]) == 0
    paths = ["--input", str(tmp_path / "payments.csv"), "--output", str(tmp_path / "scores.csv")]
    paths += ["--rejects", str(tmp_path / "broken.csv"), "--model", str(tmp_path / "run" / "model")]
    assert run(score.main, paths) == 0
    of_run = pd.read_csv(tmp_path / "run" / "scores.csv").set_index("row")["gaussian_log_reconstruction_probability"]
    of_score = pd.read_csv(tmp_path / "scores.csv").set_index("row")["log_reconstruction_probability"]
    np.testing.assert_allclose(of_score[of_run.index], of_run, rtol=1e-5)
    assert pd.read_csv(tmp_path / "broken.csv")["row"].tolist() == [99, 199]


def test_a_wrong_cell_is_told_with_its_line_below_blank_lines(tmp_path):
    path = tmp_path / "payments.csv"
    rows = [f"{i}.5,{7 * i % 31},{int(i % 50 == 0)}" for i in range(300)]
    path.write_text("\n".join(["a,b,label", "", "", *rows, "1,zz,0"]))
    with pytest.raises(UsageError, match=r"row 300 \(line 304\), column b: 'zz' is not a number"):
        read(path, "label", number=("b",))
