"""Loading policy files: messages, places, files and bounds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ratectl.diagnostics import Diagnostic, Span
from ratectl.errors import UsageError
from ratectl.policy import codes
from ratectl.policy.codes import CODES
from ratectl.policy.language.rates import Rate
from ratectl.policy.loading.loader import NO_FILES, NO_POLICIES, Loaded, load, with_source_lines
from ratectl.policy.read import load_checked
from ratectl.runtime.owners import this_user

if TYPE_CHECKING:
    from collections.abc import Sequence

INVALID = Path(__file__).parents[2] / "invalid_policies"
HEADER = "apiVersion: ratectl/v1\nscope: /a\n"


def load_text(text: str | bytes) -> Loaded:
    return load(["-"], stdin=text.encode() if isinstance(text, str) else text)


def found_codes(loaded: Loaded) -> list[str]:
    return [found.code for found in loaded.diagnostics]


def rendered(diagnostics: Sequence[Diagnostic]) -> str:
    lines = []
    for found in diagnostics:
        lines.append(str(found))
        lines += [f"  note: {note}" for note in found.notes]
        if found.source_line is not None:
            lines.append(f"  | {found.source_line}")
            width = found.span.end_column - found.span.column
            lines.append("  | " + " " * (found.span.column - 1) + "^" * width)
    return "".join(f"{line}\n" for line in lines)


class TestMessages:
    """One file for each mistake, with the exact rendering beside it.

    RATECTL_UPDATE_GOLDEN=1 writes the renderings: review the difference before committing it.
    """

    @pytest.mark.parametrize("path", sorted(INVALID.glob("*.yaml")), ids=lambda path: path.stem)
    def test_exact_rendering(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(path.parent)
        text = rendered(load_checked([path.name]).diagnostics)
        golden = path.with_suffix(".txt")
        if os.environ.get("RATECTL_UPDATE_GOLDEN"):
            golden.write_text(text, encoding="utf-8")
        assert text == golden.read_text(encoding="utf-8")

    def test_every_rendering_has_its_file(self) -> None:
        assert {p.stem for p in INVALID.glob("*.txt")} == {p.stem for p in INVALID.glob("*.yaml")}

    def test_every_code_has_a_file_or_a_named_test(self) -> None:
        shown = "".join(p.read_text(encoding="utf-8") for p in INVALID.glob("*.txt"))
        tested_below = {
            codes.TOO_LARGE,  # TestBounds
            codes.TOO_MANY,  # TestBounds.test_problems_of_one_file_are_bounded
            codes.NOT_FOUND,  # TestFiles
            codes.UNREADABLE,  # TestFiles
            codes.NO_FILES,  # TestFiles
            codes.EMPTY_FILE,  # TestFiles.test_an_empty_file_beside_others_is_a_warning
            codes.LINK_OUT,  # test_links.py
            codes.OWNED,  # tests/cli/test_sets.py: it depends on the live generation
            codes.UNSAYABLE,  # tests/moving
        }
        assert {code for code in CODES if f"[{code}]" not in shown} == tested_below

    def test_every_code_shown_is_in_the_table(self) -> None:
        for path in INVALID.glob("*.yaml"):
            assert set(found_codes(load_checked([path]))) <= set(CODES)

    def test_one_constant_for_each_code(self) -> None:
        constants = [v for k, v in vars(codes).items() if k.isupper() and isinstance(v, str)]
        assert len(constants) == len(set(constants))
        assert set(constants) <= set(CODES)


class TestDocuments:
    def test_a_whole_policy(self) -> None:
        loaded = load_text(
            HEADER
            + "kind: Policy\nowner: team\non_error: deny\nprotected: true\nunset: [nightly]\n"
            "limits:\n"
            "  spike: {rate: 100/s, burst: 10_000, per: tenant, mode: off}\n"
            "  steady: {algorithm: sliding-window, rate: 0.5/s, per: []}\n"
            "caps:\n  spike: {rate: 400/s, burst: 0}\n"
        )
        assert loaded.diagnostics == ()
        policy = loaded.tree.policies["/a"]
        assert policy.on_error == "deny"
        assert policy.limits["spike"].burst == 10_000
        assert policy.limits["spike"].mode == "off"
        assert policy.limits["steady"].rate == Rate.parse("0.5/s")
        assert policy.limits["steady"].per == ()
        assert policy.caps["spike"].burst == 0

    def test_places(self) -> None:
        text = (
            "# first\n---\napiVersion: ratectl/v1\nscope: /a\nlimits:\n"
            "  spike:\n    rate: 100/s\n    per: [tenant, route]\n"
            "unset:\n  - a\n  - b\n"
        )
        source = load_text(text).tree.sources["/a"]
        assert source.file == "<stdin>"
        assert source.at == {
            "": (3, 1, 11),
            "apiVersion": (3, 13, 23),
            "scope": (4, 8, 10),
            "limits": (5, 1, 7),
            "limits.spike": (6, 3, 8),
            "limits.spike.rate": (7, 11, 16),
            "limits.spike.per": (8, 10, 25),
            "limits.spike.per.0": (8, 11, 17),
            "limits.spike.per.1": (8, 19, 24),
            "unset": (10, 3, 4),
            "unset.0": (10, 5, 6),
            "unset.1": (11, 5, 6),
        }
        assert source.span("limits.spike.burst") == Span("<stdin>", 6, 3, 8)

    def test_a_name_with_dots_is_refused(self) -> None:
        text = HEADER + "limits:\n  a: {rate: 1/s}\n  a.rate: {rate: 2/s}\n"
        (found,) = load_text(text).diagnostics
        assert (found.code, found.span.line, found.span.column) == (codes.NAME, 5, 3)

    def test_places_of_aliased_values_lie_in_their_anchor(self) -> None:
        text = HEADER + "limits:\n  a: &x {rate: 1/s, brust: 5}\n  b: *x\n"
        spans = [found.span for found in load_text(text).diagnostics]
        assert [(span.line, span.column) for span in spans] == [(4, 21), (4, 21)]

    def test_a_value_is_shared_by_an_alias(self) -> None:
        loaded = load_text(HEADER + "limits:\n  a: &x {rate: &r 1/s}\n  b: *x\n  c: {rate: *r}\n")
        limits = loaded.tree.policies["/a"].limits
        assert limits["a"] == limits["b"] == limits["c"]

    def test_empty_documents_between_others_are_ignored(self) -> None:
        loaded = load_text(f"---\n---\n# nothing\n---\n{HEADER}---\n...\n")
        assert loaded.diagnostics == ()
        assert list(loaded.tree.policies) == ["/a"]

    def test_documents_with_errors_are_left_out_and_named(self) -> None:
        loaded = load_text(
            HEADER + "---\napiVersion: ratectl/v1\nscope: /b\nburst: 5\n"
            "---\napiVersion: ratectl/v1\nscope: /c\nlimits: {x: {burst: 010}}\n"
            "---\napiVersion: ratectl/v1\nscope: /d\nlimits: {x: {burst: 5\n"
        )
        assert list(loaded.tree.policies) == ["/a"]
        assert loaded.broken == {"/b", "/c", "/d"}
        assert loaded.unread == {"<stdin>"}
        assert not loaded.ok

    def test_an_unfinished_document_has_no_missing_fields(self) -> None:
        assert found_codes(load_text("owner: team\nlimits: {\n")) == [codes.SYNTAX]

    def test_a_refused_value_is_reported_once(self) -> None:
        loaded = load_text("apiVersion: yes\nkind: no\nscope: 010\nlimits: ~\nunset: [1:30]\n")
        assert found_codes(loaded) == ["RC112", "RC112", "RC113", "RC111", "RC113"]

    def test_the_first_of_two_declarations_stays(self) -> None:
        again = HEADER.replace("scope", "owner: second\nscope")
        loaded = load_text(f"{HEADER}owner: first\n---\n{again}")
        assert loaded.tree.policies["/a"].owner == "first"
        assert found_codes(loaded) == [codes.DUPLICATE_SCOPE]
        assert loaded.broken == frozenset()

    def test_other_kinds_do_not_declare_their_scope(self) -> None:
        exception = (
            "---\napiVersion: ratectl/v1\nkind: Exception\nscope: /a\nreason: x\n"
            "until: 2026-11-30T00:00Z\nlimits: {spike: {rate: 1/s}}\n"
        )
        loaded = load_text(HEADER + exception)
        assert found_codes(loaded) == []
        assert list(loaded.tree.policies) == ["/a"]
        assert [each.scope for each in loaded.tree.exceptions] == ["/a"]

    def test_dates_are_text(self) -> None:
        loaded = load_text(HEADER + "description: 2026-01-01\nowner: 2026-01-01T00:00:00Z\n")
        assert loaded.tree.policies["/a"].description == "2026-01-01"

    @pytest.mark.parametrize("nothing", ["", "null", "~"])
    @pytest.mark.parametrize("field", ["limits", "unset", "owner", "overrides"])
    def test_null_is_an_error(self, field: str, nothing: str) -> None:
        loaded = load_text(f"{HEADER}{field}: {nothing}\n")
        assert found_codes(loaded) == [codes.NULL]
        assert not loaded.tree.policies


class TestFiles:
    def write(self, folder: Path, *names: str) -> None:
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            scope = "".join(c if c.isalnum() or c == "/" else "-" for c in name)
            path.write_text(f"apiVersion: ratectl/v1\nscope: /{scope}\n")

    def test_a_directory_is_read_in_order(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.write(tmp_path / "policies", "b.yaml", "a/z.yml", "a/b/c.yaml", "a-b.yaml")
        self.write(tmp_path / "policies", ".hidden.yaml", ".git/x.yaml", "notes.txt", "a.yaml~")
        monkeypatch.chdir(tmp_path)
        loaded = load(["policies/"])
        assert loaded.files == (
            "policies/a/b/c.yaml",
            "policies/a/z.yml",
            "policies/a-b.yaml",
            "policies/b.yaml",
        )
        assert loaded.ok
        assert loaded.texts["policies/b.yaml"][1] == "scope: /b-yaml"

    def test_the_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write(tmp_path, "a.yaml")
        monkeypatch.chdir(tmp_path)
        assert load(["."]).files == ("a.yaml",)

    def test_a_given_file_may_have_any_name(self, tmp_path: Path) -> None:
        self.write(tmp_path, ".hidden.conf")
        assert load([tmp_path / ".hidden.conf"]).ok

    def test_a_file_given_twice_is_read_once(self, tmp_path: Path) -> None:
        self.write(tmp_path, "a.yaml", "b.yaml")
        (tmp_path / "link.yaml").symlink_to("a.yaml")
        loaded = load([tmp_path / "b.yaml", tmp_path, tmp_path])
        assert loaded.ok
        assert [Path(file).name for file in loaded.files] == ["b.yaml", "a.yaml"]

    def test_link_loops_end(self, tmp_path: Path) -> None:
        self.write(tmp_path, "a/a.yaml")
        (tmp_path / "a" / "up").symlink_to("..")
        (tmp_path / "self.yaml").symlink_to("self.yaml")
        loaded = load([tmp_path])
        assert len(loaded.tree.policies) == 1
        assert found_codes(loaded) == [codes.UNREADABLE]

    def test_a_mounted_config_map_is_read_once(self, tmp_path: Path) -> None:
        self.write(tmp_path, "..2026_01/a.yaml")
        (tmp_path / "..data").symlink_to("..2026_01")
        (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
        loaded = load([tmp_path])
        assert [Path(file).name for file in loaded.files] == ["a.yaml"]
        assert loaded.ok

    def test_linked_directories_are_followed(self, tmp_path: Path) -> None:
        """Links inside the tree are followed; see test_links.py for others."""
        self.write(tmp_path / "policies" / "z", "a.yaml")
        (tmp_path / "policies" / "team").symlink_to("z")
        loaded = load([tmp_path / "policies"])
        assert len(loaded.tree.policies) == 1
        assert loaded.files == (str(tmp_path / "policies" / "team" / "a.yaml"),), "and read once"

    def test_a_missing_path(self, tmp_path: Path) -> None:
        missing = str(tmp_path / "no")
        (found,) = load([missing]).diagnostics
        assert str(found) == (
            f"{missing}: error[RC120]: no such file or directory: {missing}"
            " (correct the path, or create it)"
        )

    @pytest.mark.parametrize("path", ["\ud800", "x/" * 3000], ids=["lone", "long"])
    def test_impossible_paths(self, path: str) -> None:
        assert found_codes(load([path])) in ([codes.NOT_FOUND], [codes.UNREADABLE])

    @pytest.mark.parametrize("path", ["a\0b", "", " ", "etcd://host/prod"])
    def test_an_invalid_path_is_a_usage_error(self, path: str) -> None:
        with pytest.raises(UsageError, match="a path to read policies from"):
            load([path])

    def test_a_broken_link_is_reported(self, tmp_path: Path) -> None:
        self.write(tmp_path, "a.yaml")
        (tmp_path / "b.yaml").symlink_to("nowhere")
        loaded = load([tmp_path])
        (found,) = loaded.diagnostics
        name = str(tmp_path / "b.yaml")
        assert str(found) == (
            f"{name}: error[RC121]: cannot read {name}: no such file or directory"
            " (correct the path, or remove it)"
        )
        assert loaded.unread == {name}

    def test_an_unreadable_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write(tmp_path, "a.yaml", "b/c.yaml")
        scandir = os.scandir

        def refuse(path: str) -> object:
            if str(path).endswith("b"):
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        loaded = load([tmp_path])
        assert found_codes(loaded) == [codes.UNREADABLE]
        (found,) = loaded.diagnostics
        assert "cannot read" in found.message
        assert "belongs to user" in found.notes[0]
        assert f"ratectl runs as {this_user()}" in found.notes[0]
        assert found.hint == (
            f"let {this_user()} read it and enter the folders above it, or run ratectl as its owner"
        )

    def test_a_pipe_in_a_directory_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.yaml")
        self.write(tmp_path, "a.yaml")
        (found,) = load([tmp_path]).diagnostics
        name = str(tmp_path / "pipe.yaml")
        assert str(found) == (
            f"{name}: error[RC121]: cannot read {name}: it is no regular file"
            " (put a file there, or remove it)"
        )

    def test_a_directory_without_policy_files(self, tmp_path: Path) -> None:
        (tmp_path / "readme.md").write_text("x")
        loaded = load([tmp_path])
        assert found_codes(loaded) == [NO_FILES]
        assert str(loaded.diagnostics[0]) == (
            f"{tmp_path}: error[RC122]: no policy files in {tmp_path}"
            " (write at least one file that ends in .yaml or .yml)"
        )
        assert not loaded.ok

    def test_files_without_a_policy(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text("# nothing\n")
        (tmp_path / "b.yaml").write_text("---\n---\n")
        loaded = load([tmp_path])
        (found,) = loaded.diagnostics
        assert (found.code, found.message) == (NO_POLICIES, "all 2 files hold no policy")
        assert not loaded.ok

    def test_an_empty_file_beside_others_is_a_warning(self, tmp_path: Path) -> None:
        self.write(tmp_path, "a.yaml")
        (tmp_path / "b.yaml").write_text("")
        loaded = load([tmp_path])
        assert found_codes(loaded) == [codes.EMPTY_FILE]
        assert loaded.ok

    def test_no_paths(self) -> None:
        with pytest.raises(UsageError, match="no path"):
            load([])

    def test_standard_input_must_be_given(self) -> None:
        with pytest.raises(UsageError, match="standard input"):
            load(["-"])

    def test_standard_input_counts_once(self) -> None:
        loaded = load(["-", "-"], stdin=HEADER.encode())
        assert loaded.ok
        assert loaded.files == ("<stdin>",)

    def test_a_scope_in_two_files(self, tmp_path: Path) -> None:
        for name in ("b.yaml", "a.yaml"):
            (tmp_path / name).write_text(f"{HEADER}owner: {name}\n")
        loaded = load([tmp_path])
        (found,) = loaded.diagnostics
        assert found.code == "RC205"
        assert found.span == Span(str(tmp_path / "b.yaml"), 2, 8, 10)
        assert found.notes == (f"first declared at {tmp_path / 'a.yaml'}:2:8",)
        assert loaded.tree.policies["/a"].owner == "a.yaml"

    def test_findings_of_all_files_are_sorted(self, tmp_path: Path) -> None:
        for name in ("b.yaml", "a.yaml"):
            (tmp_path / name).write_text("scope: x\napiVersion: no\nlimits: 5\n")
        spans = [found.span for found in load([tmp_path / "b.yaml", tmp_path]).diagnostics]
        assert len(spans) == 6
        assert spans == sorted(spans)

    def test_a_name_that_could_drive_a_terminal(self, tmp_path: Path) -> None:
        (tmp_path / "a\x1b[2J.yaml").write_text("")
        (tmp_path / "a\\x1b[2J.yaml").write_text("")
        files = [Path(file).name for file in load([tmp_path]).files]
        assert sorted(files) == ["a\\x1b[2J.yaml", "a\\x1b[2J.yaml'"]


class TestSourceLines:
    def test_filled_from_the_texts(self) -> None:
        found = Diagnostic("RC201", "m", Span("f", 2, 1, 2))
        texts = {"f": ("one", "two\x1b\u202e!")}
        (filled,) = with_source_lines([found], texts)
        assert filled.source_line == "two\ufffd\ufffd!"

    @pytest.mark.parametrize("span", [Span("g", 1, 1), Span("f", 9, 1), Span("f")])
    def test_findings_without_a_line_stay_unchanged(self, span: Span) -> None:
        found = Diagnostic("RC201", "m", span)
        assert with_source_lines([found], {"f": ("one",)}) == [found]

    def test_lines_too_long_to_show_are_left_out(self) -> None:
        found = Diagnostic("RC201", "m", Span("f", 1, 1))
        assert with_source_lines([found], {"f": ("x" * 1001,)}) == [found]


class TestBounds:
    def test_problems_of_one_file_are_bounded(self) -> None:
        unknown = "".join(f"f{i}: x\n" for i in range(3000))
        loaded = load_text(HEADER + unknown)
        assert len(loaded.diagnostics) == 1001
        assert found_codes(loaded)[0] == codes.TOO_MANY
        assert loaded.broken == {"/a"}

    def test_problems_of_many_documents_are_bounded(self) -> None:
        loaded = load_text("--- text\n" * 3000)
        assert len(loaded.diagnostics) == 1001

    def test_a_tree_of_10_000_policies_in_one_file(self) -> None:
        document = "apiVersion: ratectl/v1\nscope: /t/s{}\nlimits: {{spike: {{rate: 1/s}}}}\n"
        loaded = load_text("---\n".join(document.format(i) for i in range(10_000)))
        assert loaded.diagnostics == ()
        assert len(loaded.tree.policies) == 10_000
