"""How a text is made of a row: nested fields, templates, filters; what has no text is counted, what is damaged too."""

from __future__ import annotations

import pytest
from row_kinds import KINDS, TEXTS, arrow, files, lines, read

from stillroom.config import SourceConfig, parse
from stillroom.corpora.sources.table_rows import RowCount
from stillroom.types import UserError

FORMS = ("a.jsonl", "list.json", "a.csv", "a.parquet", "a.arrow", "a.jsonl.gz")


def written(tmp_path, name, rows):
    path = tmp_path / name
    path.write_bytes(KINDS[name](rows))
    return path


@pytest.mark.parametrize("name", FORMS)
def test_a_template_puts_columns_together(tmp_path, name):
    rows = [{"title": f"title {n}", "body": text, "n": str(n)} for n, text in enumerate(TEXTS)]
    source = files(written(tmp_path, name, rows), template="# {title}\n\n{body} {{{n}}}")
    assert read(source)[0] == [f"# title {n}\n\n{text} {{{n}}}" for n, text in enumerate(TEXTS)]


def test_a_template_takes_numbers_and_nested_fields_and_leaves_out_what_is_empty(tmp_path):
    rows = [
        {"a": {"b": "x", "n": 1.5}, "c": "y"},
        {"a": {"b": None, "n": 2}, "c": ""},
        {"a": None, "c": "z"},
        {"a": None, "c": None},
        {"a": {"b": ""}, "c": ""},
    ]
    for name in ("a.jsonl", "a.parquet"):
        source = files(written(tmp_path, name, rows), template="{a.b}|{c}", format="rows")
        assert read(source) == (["x|y", "|z"], RowCount(rows=5, without_text=3))
    source = files(tmp_path / "a.jsonl", template="{a.n}|{c}")
    assert read(source)[0] == ["1.5|y", "2|", "|z"]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        (("score >= 3",), [3, 4]),
        (("score>2", "score<4"), [3]),
        (("lang == en",), [0, 2, 4]),
        (('lang == "en"', "score != 2"), [0, 4]),
        (("ok == true",), [0, 3]),
        (("score == 1.0",), [1]),
        (("in.day >= 2024-01-04",), [3, 4]),
        (("none == 1",), []),
        (("lang != fr",), [0, 2, 4]),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "list.json", "a.parquet", "a.arrow"])
def test_rows_that_do_not_meet_the_conditions_are_left_out_and_counted(tmp_path, name, where, kept):
    rows = [
        {"text": f"t{n}", "score": n, "lang": "fr" if n % 2 else "en", "ok": n % 3 == 0, "none": None,
         "in": {"day": f"2024-01-0{n + 1}"}}
        for n in range(5)
    ]  # fmt: skip
    source = files(written(tmp_path, name, rows), where=where)
    assert read(source) == ([f"t{n}" for n in kept], RowCount(rows=5, filtered=5 - len(kept)))


def test_numbers_of_csv_are_compared_as_numbers(tmp_path):
    source = files(written(tmp_path, "a.csv", [{"text": f"t{n}", "n": str(n)} for n in (9, 10, 11)]), where=["n > 9"])
    assert read(source)[0] == ["t10", "t11"]
    written(tmp_path, "a.csv", [{"text": "t", "n": "many"}])
    with pytest.raises(UserError, match=r"field 'n' holds str 'many', expected a number to compare with 9"):
        read(source)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"template": "{title} {body}"}, r"no field 'body', only id, title; set field"),
        ({"field": "title", "where": ["lang == en"]}, r"no field 'lang', only id, title; name one of them in where"),
        ({"field": "title.a"}, r"no field 'title.a', only id, title"),
    ],
)
def test_a_column_that_is_missing_is_named_with_those_there(tmp_path, name, changes, words):
    with pytest.raises(UserError, match=words):
        read(files(written(tmp_path, name, [{"id": "1", "title": "t"}]), **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"template": "no field"}, r"template is 'no field', it names no field; write one like '{title}"),
        ({"template": "{}"}, r"write fields as {name}"),
        ({"template": "{a!r}"}, r"write fields as {name}"),
        ({"template": "{a:>9}"}, r"write fields as {name}"),
        ({"template": "{a"}, r"template is '{a', "),
        ({"template": "{a}", "field": "b"}, r"field has no effect beside template; remove one of the two"),
        ({"where": ["lang"]}, r"'lang' is no condition; write one like 'score >= 3' or 'lang == en'"),
        ({"where": ["lang = en"]}, r"'lang = en' is no condition"),
        ({"where": ["== 3"]}, r"is no condition"),
        ({"where": ["a =="]}, r"is no condition"),
        ({"errors": "ignore"}, r"errors is 'ignore'"),
        ({"epochs": 0}, r"epochs is 0"),
    ],
)
def test_templates_and_conditions_that_are_none_are_refused(changes, words):
    with pytest.raises(UserError, match=words) as error:
        parse(SourceConfig, {"kind": "files", "path": "x"} | changes, "it")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changes", [{"field": "body"}, {"template": "{a}"}, {"where": ["a == b"]}])
@pytest.mark.parametrize("form", ["auto", "text"])
def test_fields_of_rows_have_no_effect_on_text(tmp_path, changes, form):
    (tmp_path / "a.txt").write_text("prose")
    (name,) = changes
    with pytest.raises(
        UserError, match=rf"is text, which has no fields, so that {name} .* has no effect; remove {name}"
    ):
        read(files(tmp_path / "a.txt", format=form, **changes))


@pytest.mark.parametrize("kind", ["facts", "python-library"])
@pytest.mark.parametrize("name", ["template", "where", "errors", "epochs"])
def test_fields_without_effect_on_a_kind_are_refused(kind, name):
    values = {"template": "{a}", "where": ["a == b"], "errors": "skip", "epochs": 2.0}
    if (kind, name) == ("python-library", "epochs"):
        assert parse(SourceConfig, {"kind": kind, "epochs": 2.0}, "it").epochs == 2.0
    else:
        with pytest.raises(UserError, match=f"{name} has no effect on kind {kind}"):
            parse(SourceConfig, {"kind": kind, name: values[name]}, "it")


# Damage that is skipped and counted.

GOOD = [{"text": f"good {n}"} for n in range(9)]
DAMAGED = {
    "no JSON": b'{"text": "cut\n',
    "no object": b"[1]\n",
    "not UTF-8": '{"text": "naïve"}\n'.encode("latin-1"),
    "no text": b'{"text": 4}\n',
    "half a pair": b'{"text": "\\ud800"}\n',
    "deep": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_lines_are_skipped_and_counted_where_that_is_asked_for(tmp_path, data):
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(GOOD) + data + data + lines(GOOD))
    source = files(path, errors="skip")
    assert read(source) == ([row["text"] for row in GOOD * 2], RowCount(rows=20, damaged=2))
    with pytest.raises(UserError, match="line 10"):
        read(files(path))


def test_damaged_rows_of_tables_are_skipped_and_counted(tmp_path):
    csv = b"id,text\n1,a\n2\n3,\xff\n4,d\n"
    (tmp_path / "a.csv").write_bytes(csv)
    assert read(files(tmp_path / "a.csv", errors="skip")) == (["a", "d"], RowCount(rows=4, damaged=2))
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    values = pyarrow.array([b"a", b"\xff", b"c"], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": values}), tmp_path / "a.parquet")
    assert read(files(tmp_path / "a.parquet", errors="skip")) == (["a", "c"], RowCount(rows=3, damaged=1))
    with pytest.raises(UserError, match=r"a\.parquet: row 2 is not UTF-8"):
        read(files(tmp_path / "a.parquet"))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.xz", "a.jsonl.zst", "a.parquet", "a.arrow", "file.arrow"])
def test_the_rest_of_a_file_that_is_cut_off_is_skipped_and_counted_once(tmp_path, name):
    data = KINDS[name]([{"text": text * 50} for text in TEXTS])
    (tmp_path / name).write_bytes(data[: int(len(data) * 0.6)])
    (tmp_path / "b.jsonl").write_bytes(lines(GOOD))
    texts, count = read(files(tmp_path, errors="skip"))
    assert texts[-9:] == [row["text"] for row in GOOD] and count.damaged == 1
    assert all(text == TEXTS[n] * 50 for n, text in enumerate(texts[:-9]))


def test_a_row_group_that_is_damaged_is_named_or_skipped_without_the_others(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    values = [f"{n} " + "word " * 300 for n in range(40)]
    parquet.write_table(
        pyarrow.table({"text": values}), path, row_group_size=10, compression="none", use_dictionary=False,
        write_page_checksum=True,
    )  # fmt: skip
    data = bytearray(path.read_bytes())
    data[data.find(b"15 word") + 9] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.parquet, row group 1: cannot be read as Parquet by pyarrow"):
        read(files(path), 1000)
    texts, count = read(files(path, errors="skip"), 1000)
    assert texts == [*values[:10], *values[20:]] and count.damaged == 1


def test_damaged_text_is_skipped_section_by_section(tmp_path):
    (tmp_path / "a.txt").write_bytes(("x" * 99 + "\n").encode() * 3 + b"\xff" * 100 + b"\0" * 100 + b"end")
    found = read(files(tmp_path / "a.txt", errors="skip", max_document_chars=100))
    assert found == (["x" * 99 + "\n"] * 3 + ["end"], RowCount(damaged=2))
    (tmp_path / "b.txt").write_text("good")
    (tmp_path / "c.png").write_bytes(b"\x89PNG\0")
    texts, count = read(files(tmp_path, errors="skip", max_document_chars=100))
    assert texts[-2:] == ["end", "good"] and count.damaged == 3


def test_a_configuration_that_is_wrong_is_no_damage(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines([{"a": "b", "c": "d"}]))
    with pytest.raises(UserError, match="no field 'text'"):
        read(files(tmp_path, errors="skip"))


# Large and odd rows.


@pytest.mark.parametrize("name", ["a.jsonl", "list.json", "a.csv", "a.parquet", "a.arrow", "a.jsonl.zst"])
def test_a_row_of_many_megabytes_is_read(tmp_path, name):
    text = "a long text, é☕ " * 600_000
    rows = [{"id": "1", "text": "first"}, {"id": "2", "text": text}, {"id": "3", "text": "last"}]
    source = files(written(tmp_path, name, rows))
    for size in (1 << 20, 1 << 30):
        assert read(source, size)[0] == ["first", text, "last"]


def test_a_line_that_never_ends_is_refused(tmp_path, monkeypatch):
    from stillroom.corpora.sources import json_rows

    monkeypatch.setattr(json_rows, "LONGEST", 1000)
    (tmp_path / "a.jsonl").write_bytes(lines([{"text": "x" * 2000}]))
    (tmp_path / "b.json").write_bytes(b'[{"text": "' + b"x" * 5_000_000)
    with pytest.raises(UserError, match="line 1 is longer than"):
        read(files(tmp_path / "a.jsonl"))
    with pytest.raises(UserError, match="item 1 is not valid JSON"):
        read(files(tmp_path / "b.json"))


@pytest.mark.parametrize("name", FORMS)
def test_signs_of_text_are_kept_as_they_are(tmp_path, name):
    texts = [
        "a\r\nb\rc\n",
        "tab\tand\x0c",
        "nul \x00 in it",
        "a\u2028 \x85 \u2029b",
        "<|eos|> <s>",
        "\ufeffmark",
        "ﷺ 𝔸",
    ]
    assert read(files(written(tmp_path, name, [{"id": "1", "text": text} for text in texts])))[0] == texts


@pytest.mark.parametrize("kind", ["large_string", "string_view", "dictionary"])
def test_every_type_of_text_of_a_table_is_read(tmp_path, kind):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import ipc

    texts = [*TEXTS, None, ""]
    column = pyarrow.array(texts)
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(getattr(pyarrow, kind)())
    table = pyarrow.table({"text": column})
    with ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    assert read(files(tmp_path / "a.arrow")) == (TEXTS, RowCount(rows=62, without_text=2))


def test_a_table_with_a_column_twice_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(UserError, match="has 2 columns 'text', expected one"):
        read(files(tmp_path))
    (tmp_path / "a.parquet").write_bytes(arrow("parquet", [{"text": "a"}]))
    assert read(files(tmp_path))[0] == ["a"]
