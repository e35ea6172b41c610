"""Strict YAML: values, refusals and places, with both parsers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ratectl.policy import codes
from ratectl.policy.yaml import events, reader
from ratectl.policy.yaml.nodes import BROKEN, Node, Reading
from ratectl.policy.yaml.reader import read
from ratectl.policy.yaml.text import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

PARSERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]


@pytest.fixture(params=PARSERS, ids=lambda parser: parser.__name__)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_LOADER", request.param)


def reading(text: str | bytes) -> Reading:
    return read(text.encode() if isinstance(text, str) else text, "f.yaml")


def only(text: str | bytes) -> Any:
    """Return the value of the only document of a text without problems."""
    result = reading(text)
    assert result.diagnostics == ()
    assert result.complete
    (document,) = result.documents
    return document.root.value


def code_of(text: str | bytes) -> str:
    (found,) = reading(text).diagnostics
    return found.code


def nodes(node: Node) -> Iterator[Node]:
    pending = [node]
    while pending:
        node = pending.pop()
        yield node
        pending += node.children.values()


@pytest.mark.usefixtures("parser")
class TestPlainScalars:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("0", 0),
            ("-0", 0),
            ("5", 5),
            ("+5", 5),
            ("-17", -17),
            ("10_000", 10_000),
            ("1_0_0", 100),
            ("9" * 18, 10**18 - 1),
            ("0.5", 0.5),
            ("-1.25", -1.25),
            ("1_000.5", 1000.5),
            ("0.0", 0.0),
            ("true", True),
            ("false", False),
            ("100/s", "100/s"),
            ("50/30s", "50/30s"),
            ("-x", "-x"),
            ("+", "+"),
            (".", "."),
            (".a", ".a"),
            ("1.2.3", "1.2.3"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2026-01-01", "2026-01-01"),
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("00:00 Europe/Berlin", "00:00 Europe/Berlin"),
            ("1:99", "1:99"),
            ("0xyz", "0xyz"),
            ("0o9", "0o9"),
            ("1e", "1e"),
            ("12f", "12f"),
            ("inf", "inf"),
            ("nan", "nan"),
            ("yesterday", "yesterday"),
            ("nope", "nope"),
            ("none", "none"),
            ("=", "="),
            ("a" * 5000, "a" * 5000),
            ("1" * 50 + "x", "1" * 50 + "x"),
        ],
    )
    def test_accepted(self, text: str, value: object) -> None:
        found = only(f"key: {text}\n")["key"]
        assert found == value
        assert type(found) is type(value)

    @pytest.mark.parametrize(
        ("code", "texts"),
        [
            (codes.NULL, ["null", "Null", "NULL", "~", "", "nUll"]),
            (codes.WORD, ["yes", "Yes", "YES", "no", "NO", "on", "On", "off", "y", "Y", "n", "N"]),
            (codes.WORD, ["True", "TRUE", "False", "FALSE", "tRue"]),
            (codes.NUMBER_FORM, ["010", "-010", "007", "00", "0_1", "01.5", "0o10", "0O17", "0b1"]),
            (codes.NUMBER_FORM, ["0x1F", "0XFF", "-0x1", "1e3", "1E3", "1.5e+3", "-1e-3", "1_0e2"]),
            (codes.NUMBER_FORM, ["1:30", "22:00", "1:2:3", "-1:30", "1:30.5", "12:30:45"]),
            (codes.NUMBER_FORM, ["1.", ".5", "+.5", "1__0", "1_", "1_000_"]),
            (codes.NOT_FINITE, [".inf", "-.inf", "+.inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"]),
            (codes.NUMBER_SIZE, ["9" * 19, "-" + "9" * 19, "1" + "0" * 400, "0." + "1" * 60]),
            (codes.NUMBER_SIZE, ["0x" + "f" * 50_000, "1" + ":1" * 100, "1" * 50 + "e5"]),
        ],
    )
    def test_refused(self, code: str, texts: list[str]) -> None:
        for text in texts:
            assert code_of(f"key: {text}\n") == code, text
            assert code_of(f"- {text}\n- a\n") == code, text
            # Quoted, it is text.
            assert only(f"key: '{text}'\n") == {"key": text}
            assert only(f'key: "{text}"\n') == {"key": text}

    def test_hints_name_the_probable_value(self) -> None:
        hints = {
            "010": "10", "0o10": "8", "0x1F": "31", "1e3": "1000", "1.5e-2": "0.015", ".5": "0.5",
            "1.": "1", "1__000": "1000", "0b11": "3", "1e999999999": "it in plain digits",
            "yes": "true", "N": "false", "TRUE": "true",
        }  # fmt: skip
        for text, instead in hints.items():
            (found,) = reading(f"key: {text}").diagnostics
            assert found.hint == f"quote it if you mean the text, or write {instead}"

    def test_off_is_a_mode(self) -> None:
        assert only("mode: off") == {"mode": "off"}
        assert only("{a: {mode: off}}") == {"a": {"mode": "off"}}
        for text in ("mode: [off]", "mode: Off", "mode: {x: off}", "modes: off", "off: mode"):
            assert code_of(text) == codes.WORD, text


@pytest.mark.usefixtures("parser")
class TestKeys:
    @pytest.mark.parametrize(
        "key", ["a", "a b", "2026-01-01", "1.2.3", "a:b", "'5'", '"no"', "'<<'"]
    )
    def test_text(self, key: str) -> None:
        assert only(f"{key}: x\n") == {key.strip("'\""): "x"}

    @pytest.mark.parametrize(
        ("key", "code"),
        [
            ("5", codes.KEY),
            ("1.5", codes.KEY),
            ("true", codes.KEY),
            ("null", codes.KEY),
            ("~", codes.KEY),
            ("?", codes.KEY),
            ("[a]", codes.KEY),
            ("{a: b}", codes.KEY),
            ("? [a]\n", codes.KEY),
            ("no", codes.WORD),
            ("010", codes.NUMBER_FORM),
            ("1:30", codes.NUMBER_FORM),
            (".inf", codes.NOT_FINITE),
            ("9" * 19, codes.NUMBER_SIZE),
            ("<<", codes.MERGE_KEY),
            ("!!str a", codes.TAG),
            (r'"a\nb"', codes.CHARACTER),
            (r'"a\tb"', codes.CHARACTER),
            (r'"a\0b"', codes.CHARACTER),
            (r'"\u202e"', codes.CHARACTER),
        ],
    )
    def test_refused(self, key: str, code: str) -> None:
        assert code_of(f"{key}: x\n" if key != "?" else "?\n: x\n") == code

    def test_reading_goes_on_after_an_error(self) -> None:
        result = reading("5: x\n[a]: [b, {c: no}]\nd: 1\nd: {e: 010}\nf: 2\n")
        assert [found.code for found in result.diagnostics] == [
            codes.KEY, codes.KEY, codes.WORD, codes.DUPLICATE_KEY, codes.NUMBER_FORM,
        ]  # fmt: skip
        assert result.documents[0].root.value == {"d": 1, "f": 2}

    def test_duplicates_name_the_first(self) -> None:
        result = reading("a: 1\nb: {c: 1, 'c': 2}\n\"a\": 2\na: 3\n")
        assert [(str(d.span), d.notes) for d in result.diagnostics] == [
            ("f.yaml:2:11", ("first written at f.yaml:2:5",)),
            ("f.yaml:3:1", ("first written at f.yaml:1:1",)),
            ("f.yaml:4:1", ("first written at f.yaml:1:1",)),
        ]
        assert result.documents[0].root.value == {"a": 1, "b": {"c": 1}}

    def test_an_alias_as_a_key_is_refused(self) -> None:
        assert code_of("a: &x b\n*x : c\n") == codes.KEY


@pytest.mark.usefixtures("parser")
class TestAliases:
    def test_small_reuse(self) -> None:
        assert only("a: &x [1, 2]\nb: *x\nc: &x 3\nd: *x\n") == {
            "a": [1, 2], "b": [1, 2], "c": 3, "d": 3,
        }  # fmt: skip

    def test_anchors_end_with_their_document(self) -> None:
        assert code_of("a: &x 1\n---\na: *x\n") == codes.ALIAS

    @pytest.mark.parametrize("text", ["&a [*a]", "a: &a {b: *a}", "&a [[&b [*a, x]]]", "*a"])
    def test_inside_itself_or_unknown(self, text: str) -> None:
        result = reading(text)
        assert [found.code for found in result.diagnostics] == [codes.ALIAS]
        assert not result.documents[0].ok

    @pytest.mark.parametrize(("items", "fits"), [(49, True), (50, False)])
    def test_the_bound_counts_values_written_out(self, items: int, fits: bool) -> None:
        text = f"a: &a [{'x,' * items}]\nb: [{'*a,' * 20}]\n"  # 20 × (items + 1)
        result = reading(text)
        assert (result.diagnostics == ()) == fits
        if not fits:
            assert {found.code for found in result.diagnostics} == {codes.ALIAS_SIZE}

    def test_many_aliases_of_one_anchor_are_reported_once(self) -> None:
        assert code_of(f"a: &a x\nb: [{'*a,' * 5000}]\n") == codes.ALIAS_SIZE

    def test_depth_counts_through_aliases(self) -> None:
        deep = "[" * 20 + "]" * 20
        assert only(f"a: &a {deep}\nb: {'[' * 11}*a{']' * 11}\n")
        assert code_of(f"a: &a {deep}\nb: {'[' * 12}*a{']' * 12}\n") == codes.TOO_DEEP


@pytest.mark.usefixtures("parser")
class TestText:
    def test_a_byte_order_mark_is_accepted(self) -> None:
        assert only(b"\xef\xbb\xbfa: 1\n") == {"a": 1}

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_other_encodings(self, encoding: str) -> None:
        (found,) = reading("a: text\n".encode(encoding)).diagnostics
        assert found.code == codes.ENCODING
        assert found.message == "the file is UTF-16 or UTF-32, not UTF-8"

    @pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
    def test_the_place_of_a_bad_byte(self, prefix: bytes) -> None:
        (found,) = reading(prefix + "a: b\r\nä: ".encode() + b"\xff\n").diagnostics
        assert (found.code, str(found.span)) == (codes.ENCODING, "f.yaml:2:4")

    @pytest.mark.parametrize(
        "character", ["\0", "\x07", "\x1b", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\ufeff"]
    )
    def test_forbidden_characters_everywhere(self, character: str) -> None:
        for text in (
            f"a{character}b: c",
            f"a: 'b{character}'",
            f"a: b # {character}",
            f"|\n {character}",
        ):
            assert code_of(text) == codes.CHARACTER

    def test_surrogates_have_no_utf8(self) -> None:
        assert code_of(b"a: \xed\xa0\x80\n") == codes.ENCODING

    @pytest.mark.parametrize("escape", [r"\0", r"\a", r"\e", r"\x7f", r"\N", r"\L", r"\u202E"])
    def test_escapes_to_forbidden_characters(self, escape: str) -> None:
        assert code_of(f'a: "{escape}"') == codes.CHARACTER

    def test_newlines_and_tabs_in_values(self) -> None:
        assert only('a: "b\\n\\tc"\nd: |\n  e\n  f\n') == {"a": "b\n\tc", "d": "e\nf\n"}

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_line_ends(self, end: str) -> None:
        result = reading(f"a: b{end}c: no{end}")
        assert str(result.diagnostics[0].span) == "f.yaml:2:4"
        assert result.lines == ("a: b", "c: no", "")

    def test_columns_count_characters(self) -> None:
        (found,) = reading("ä: {'🎈': no}").diagnostics
        assert found.span.column == 10

    @pytest.mark.parametrize("text", ["", "\n", "# a\n", "---\n", "---\n---\n", "\ufeff"])
    def test_an_empty_text_has_no_documents(self, text: str) -> None:
        (found,) = reading(text).diagnostics
        assert (found.code, found.severity) == (codes.EMPTY_FILE, "warning")

    def test_a_null_document_is_not_an_empty_one(self) -> None:
        assert code_of("--- null\n") == codes.NULL
        assert only("--- ''\n") == ""


@pytest.mark.usefixtures("parser")
class TestStructure:
    def test_places(self) -> None:
        root = reading("a:\n  b: [x, {c: 'd'}]\n  e:\n    - |\n      f\n").documents[0].root
        a = root.children["a"]
        items = a.children["b"].children
        assert (root.place, root.keys) == ((1, 1, 2), {"a": (1, 1, 2)})
        assert (a.place, a.keys) == ((2, 3, 4), {"b": (2, 3, 4), "e": (3, 3, 4)})
        assert a.children["b"].place == (2, 6, 19)
        assert items[0].place == (2, 7, 8)
        assert items[1].place == (2, 11, 12)
        assert items[1].children["c"].place == (2, 14, 17)
        assert a.children["e"].place == (4, 5, 6)
        assert a.children["e"].children[0].place == (4, 7, 8)

    @pytest.mark.parametrize(
        "tag", ["!x", "!", "!!str", "!!python/name:os.system", "!<tag:yaml.org,2002:int>"]
    )
    @pytest.mark.parametrize("value", ["5", "'5'", "[5]", "{a: 5}"])
    def test_tags(self, tag: str, value: str) -> None:
        assert code_of(f"a: {tag} {value}\n") == codes.TAG

    def test_tagged_values_are_broken(self) -> None:
        assert reading("a: !!int 5\n").documents[0].root.value == {"a": BROKEN}

    @pytest.mark.parametrize(("depth", "fits"), [(32, True), (33, False)])
    @pytest.mark.parametrize("form", ["[]", "{}", "- "])
    def test_depth(self, depth: int, fits: bool, form: str) -> None:
        texts = {
            "[]": "[" * depth + "]" * depth,
            "{}": "{a: " * depth + "b" + "}" * depth,
            "- ": "- " * depth + "b",
        }
        result = reading(texts[form])
        assert result.complete == fits
        assert [found.code for found in result.diagnostics] == ([] if fits else [codes.TOO_DEEP])

    def test_directives(self) -> None:
        assert code_of("%YAML 1.1\n---\na: 1\n") == codes.DIRECTIVE
        assert code_of("%YAML 1.2\n---\na: 1\n") == codes.DIRECTIVE
        assert code_of("%TAG ! x\n---\na: 1\n") == codes.DIRECTIVE

    def test_every_problem_is_found(self) -> None:
        text = "a: no\nb: 010\nc: !x y\nd: ~\na: 1\n---\ne: *f\n5: g\n---\nh: [i\n"
        assert [found.code for found in reading(text).diagnostics] == [
            codes.WORD, codes.NUMBER_FORM, codes.TAG, codes.NULL, codes.DUPLICATE_KEY,
            codes.ALIAS, codes.KEY, codes.SYNTAX,
        ]  # fmt: skip

    def test_documents_before_a_syntax_error_are_kept(self) -> None:
        result = reading("a: 1\n---\nscope: /b\nc: {\n")
        assert [(d.ok, d.root.value.get("scope")) for d in result.documents] == [
            (True, None),
            (False, "/b"),
        ]
        assert not result.complete


class TestBounds:
    def test_nodes_of_a_document(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "MAX_DOCUMENT_NODES", 29)
        assert only(f"[{'a,' * 18}]")
        assert code_of(f"[{'a,' * 19}]") == codes.TOO_LARGE

    def test_nodes_of_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "MAX_FILE_NODES", 110)
        assert len(reading("--- a\n" * 10).documents) == 10
        assert code_of("--- a\n" * 11) == codes.TOO_LARGE

    def test_bytes(self) -> None:
        fits = b"a: " + b"b" * (MAX_BYTES - 3)
        assert only(fits)
        assert code_of(fits + b"b") == codes.TOO_LARGE

    def test_problems(self) -> None:
        found = reading(f"[{'no,' * 2000}]").diagnostics
        assert len(found) == reader.MAX_PROBLEMS + 1
        assert found[-1].code == codes.TOO_MANY


LEGAL_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Cf", "Cn", "Co"]), max_size=20
)
LEGAL_NUMBER = st.integers(-(10**18) + 1, 10**18 - 1) | st.floats(
    allow_nan=False, allow_infinity=False
).filter(lambda number: "e" not in repr(number) and len(repr(number)) <= 40)
LEGAL = st.recursive(
    st.booleans() | LEGAL_NUMBER | LEGAL_TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(LEGAL_TEXT, inner, max_size=5),
    max_leaves=30,
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=10), inner),
)


class TestAgainstJson:
    """JSON is YAML: text that is valid in both must give the same values."""

    @given(LEGAL)
    @settings(max_examples=200)
    def test_the_same_values(self, value: Any) -> None:
        dumped = json.dumps(value, ensure_ascii=False)
        assert json.dumps(only(dumped), ensure_ascii=False) == dumped

    @given(LEGAL)
    @settings(max_examples=100)
    def test_the_same_values_over_several_lines(self, value: Any) -> None:
        assert only(json.dumps(value, ensure_ascii=False, indent=2)) == value

    @given(LEGAL)
    @settings(max_examples=100)
    def test_every_place_lies_in_its_line(self, value: Any) -> None:
        result = reading(json.dumps(value, ensure_ascii=False, indent=1))
        for node in nodes(result.documents[0].root):
            line, column, end = node.place
            assert 1 <= column < end <= len(result.lines[line - 1]) + 1
            if isinstance(node.value, str):
                quoted = result.lines[line - 1][column - 1 : end - 1]
                assert json.loads(quoted) == node.value

    @given(ANYTHING)
    @settings(max_examples=100)
    def test_any_other_text_ends_in_findings(self, value: Any) -> None:
        result = reading(json.dumps(value))
        if not result.diagnostics:
            assert only(json.dumps(value)) == value


class TestBothParsers:
    @pytest.mark.skipif(len(PARSERS) < 2, reason="PyYAML without libyaml")
    @given(st.text(alphabet="ab:-,[]{}&*!|>'\"%@#\\?<0x1e.~ \n", max_size=60))
    @settings(max_examples=500)
    def test_both_end_and_mostly_agree(self, text: str) -> None:
        results = []
        for each in PARSERS:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(events, "_LOADER", each)
                results.append(reading(text))
        one, other = results
        if not one.diagnostics and not other.diagnostics:
            values = [[document.root.value for document in each.documents] for each in results]
            assert values[0] == values[1]
