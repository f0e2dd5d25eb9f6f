import numpy as np
import pandas as pd
import pytest

from vae_jax.tables.text_dates import DATE_FORMATS, recognise, to_dates


def cells(*values) -> np.ndarray:
    column = np.empty(len(values), object)
    column[:] = values
    return column


@pytest.mark.parametrize(
    ("column", "date_format", "last"),
    [
        (["2024-01-31"], "%Y-%m-%d", "2024-01-31"),
        (["2024-1-3"], "%Y-%m-%d", "2024-01-03"),
        (["2024-01-31T10:30"], "%Y-%m-%d %H:%M:%S", "2024-01-31T10:30"),
        (["2024-01-31", "2024-01-31 10:30:15"], "%Y-%m-%d %H:%M:%S", "2024-01-31T10:30:15"),
        (["2024-01-31 10:30:15.123456789"], "%Y-%m-%d %H:%M:%S", "2024-01-31T10:30:15.123456"),
        (["2024-01-31T10:30:15,5"], "%Y-%m-%d %H:%M:%S", "2024-01-31T10:30:15.5"),
        (["2024-01-31T10:30:15Z"], "%Y-%m-%d %H:%M:%S%z", "2024-01-31T10:30:15"),
        (["2024-01-31 10:30:15 UTC"], "%Y-%m-%d %H:%M:%S%z", "2024-01-31T10:30:15"),
        (["2024-01-31T10:30:15.5+02:00"], "%Y-%m-%d %H:%M:%S%z", "2024-01-31T08:30:15.5"),
        (["2024-01-31T22:30-0530"], "%Y-%m-%d %H:%M:%S%z", "2024-02-01T04:00"),
        (["2024-01-31 10:00+02"], "%Y-%m-%d %H:%M:%S%z", "2024-01-31T08:00"),
        (["2024/01/31"], "%Y/%m/%d", "2024-01-31"),
        (["2024.01.31"], "%Y.%m.%d", "2024-01-31"),
        (["03/04/2024", "31/01/2024"], "%d/%m/%Y", "2024-01-31"),
        (["03/04/2024", "01/31/2024"], "%m/%d/%Y", "2024-01-31"),
        (["1/31/2024 11:05 PM"], "%m/%d/%Y %H:%M:%S", "2024-01-31T23:05"),
        (["31/1/2024, 12:05:01 am"], "%d/%m/%Y %H:%M:%S", "2024-01-31T00:05:01"),
        (["1.2.2024", "31.1.2024 23:59"], "%d.%m.%Y %H:%M:%S", "2024-01-31T23:59"),
        (["31-01-2024"], "%d-%m-%Y", "2024-01-31"),
        (["01-31-2024"], "%m-%d-%Y", "2024-01-31"),
        (["1-Feb-2024", "31-JAN-2024"], "%d-%b-%Y", "2024-01-31"),
        (["1 may 2024", "3 September 2024"], "%d %b %Y", "2024-09-03"),
        (["10/Oct/2000:13:55:36 -0700"], "%d/%b/%Y %H:%M:%S%z", "2000-10-10T20:55:36"),
        (["Mar 1, 2024", "Sept. 30 2024"], "%b %d, %Y", "2024-09-30"),
        (["Thursday, February 29, 2024 5:00 PM"], "%b %d, %Y %H:%M:%S", "2024-02-29T17:00"),
        (["Wed, 21 Oct 2015 07:28:00 GMT", "Tues 1 Nov. 2016"], "%d %b %Y %H:%M:%S%z", "2016-11-01"),
        (["31/12/68", "31/12/69"], "%d/%m/%y", "1969-12-31"),
        (["3/4/24", "12/31/24 23:59"], "%m/%d/%y %H:%M:%S", "2024-12-31T23:59"),
        (["31.12.24"], "%d.%m.%y", "2024-12-31"),
        (["31-Dec-24"], "%d-%b-%y", "2024-12-31"),
        (["2024-02-28 24:00", "2024-02-29T24:00:00"], "%Y-%m-%d %H:%M:%S", "2024-03-01"),
        (["29.02.2024", "31.12.9999"], "%d.%m.%Y", "9999-12-31"),
        # Both orders fit every cell.
        (["03/04/2024", "05/06/2024", "01/02/2024"], "%d/%m/%Y", "2024-02-01"),
        (["03-04-2024", "01-05-2024"], "%d-%m-%Y", "2024-05-01"),
        (["03/04/2024 1:00 AM"], "%m/%d/%Y %H:%M:%S", "2024-03-04T01:00"),
        (["05/01/2024", "01/01/2024", "03/01/2024"], "%m/%d/%Y", "2024-03-01"),
        (["01/05/2024", "01/01/2024", "01/03/2024"], "%d/%m/%Y", "2024-03-01"),
        (["01/12/2023", "02/11/2023", "03/10/2023"], "%m/%d/%Y", "2023-03-10"),
        (["12/01/2023", "11/02/2023", "10/03/2023"], "%d/%m/%Y", "2023-03-10"),
        (["12/01/23", "11/02/23", "10/03/23"], "%d/%m/%y", "2023-03-10"),
        (["01/12/23", "02/11/23", "03/10/23"], "%m/%d/%y", "2023-03-10"),
    ],
)
def test_dates(column, date_format, last):
    everything = cells(*column, None, "NA")
    assert recognise(everything) == date_format
    dates, bad = to_dates(everything, date_format)
    assert dates.dtype == "datetime64[us]"
    assert dates[len(column) - 1] == np.datetime64(last, "us")
    assert np.isnat(dates).tolist() == [False] * len(column) + [True] * 2
    assert not bad.any()


@pytest.mark.parametrize(
    "column",
    [
        [],
        [None, "?"],
        ["abc"],
        ["20240131"],
        ["1706659200"],
        ["10:30"],
        ["2024"],
        ["31-12-24"],
        ["29/02/23"],
        ["Foo 1, 2024"],
        ["Mayor 1, 2024"],
        ["Sunny, 1 Mar 2024"],
        ["2024-02-30"],
        ["2024-13-01"],
        ["00.01.2024"],
        ["2024-01-31 24:01"],
        ["2024-01-31 24:00 PM"],
        ["2024-01-31 10:60"],
        ["31/01/2024 13:00 PM"],
        ["31-Foo-2024"],
        ["2024-01/31"],
        ["2024-01-31\n"],
        ["2024-01-31", "31/01/2024"],
        ["13/01/2024", "01/13/2024"],
        ["2024-01-31", "soon"],
        ["1.2.3.4"],
        ["1.5"],
    ],
)
def test_what_is_no_date(column):
    # Whitespace around a cell is stripped when a file is read, and here.
    expected = "%Y-%m-%d" if column == ["2024-01-31\n"] else None
    assert recognise(cells(*column)) == expected


def test_bad_cells_are_told():
    dates, bad = to_dates(cells("31.01.2024", "31.02.2024", "soon", None, "NaT", "31.01.2024"), "%d.%m.%Y")
    assert bad.tolist() == [False, True, True, False, False, False]
    assert np.isnat(dates).tolist() == [False, True, True, True, True, False]
    with pytest.raises(ValueError, match="unknown format"):
        to_dates(cells("2024"), "%Y")


@pytest.mark.parametrize("date_format", DATE_FORMATS)
def test_long_columns_agree_with_pandas(date_format):
    first, last = ("1969", "2068") if "%y" in date_format else ("1899-12-31 23:00", "2101")
    expected = pd.date_range(first, last, periods=50_000).floor("s")
    column = expected.strftime(f"{date_format} %H:%M:%S").to_numpy(object)
    assert recognise(column) == f"{date_format} %H:%M:%S"
    dates, bad = to_dates(column, date_format)
    assert not bad.any()
    np.testing.assert_array_equal(dates, expected.to_numpy("datetime64[us]"))


def test_text_that_begins_with_numbers_is_no_date():
    assert recognise(cells(*(f"{i} Main Street" for i in range(100_000)))) is None
