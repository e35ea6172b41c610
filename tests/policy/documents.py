"""Policies for tests of formatting, drawn at random."""

from __future__ import annotations

from hypothesis import strategies as st

blanks = st.sampled_from(["", "\n", "\n\n"])
remarks = st.sampled_from(
    ["", "# a remark\n", "# ratectl: ignore RC304\n", "# one\n# two: [\n", "#\n\n# x\n"]
)
beside = st.sampled_from(["", " # beside", " # ratectl: ignore RC304, RC301", "   # far #"])
rates = st.sampled_from(["1/s", "10 / minute", "'5 /1 h'", '"7/week"', "0.5/s", "unlimited"])
keys = st.sampled_from(["ip", "[ip]", "x", "[x]", "[ x ]", "[x,z]", "[]", "['x']"])


@st.composite
def limit(draw: st.DrawFn, indent: str) -> str:
    fields = {"rate": draw(rates), "per": draw(keys), "mode": "shadow", "burst": "1_0"}
    fields["burst"] = draw(st.sampled_from(["1_000", "5"]))
    names = draw(st.permutations(list(fields)))[: draw(st.integers(1, 4))]
    if draw(st.booleans()):
        gap = draw(st.sampled_from([" ", "", "   ", f"\n{indent}    "]))
        braces = f",{gap}".join(f"{name}:  {fields[name]}" for name in names)
        return f"{{{braces}{gap}}}{draw(beside)}"
    deeper = indent + draw(st.sampled_from(["  ", "    "]))
    lines = []
    for name in names:
        remark = draw(remarks)
        lines += [f"{deeper}{line}" if line else "" for line in remark.splitlines()]
        lines.append(f"{deeper}{name}: {fields[name]}{draw(beside)}")
    return "\n" + "\n".join(lines)


@st.composite
def policies(draw: st.DrawFn) -> str:
    """Return a policy with comments, blank lines and fields in any order."""
    indent = draw(st.sampled_from(["  ", "   "]))
    limits = "".join(
        f"{draw(blanks)}{indent}{name}: {draw(limit(indent))}\n"
        for name in draw(st.lists(st.sampled_from(["a", "rate", "per"]), unique=True, min_size=1))
    )
    quoted = draw(
        st.sampled_from(["plain words", "'it''s'", '"a\\tb # c"', "|\n  # x\n  y", ">-\n  a\n  b"])
    )
    parts = [
        f"apiVersion:  ratectl/v1{draw(beside)}\n",
        f"scope: /a{draw(beside)}\n",
        f"description: {quoted}\n",
        f"unset:\n- b  # gone\n{indent}# end\n",
        f"limits:{draw(beside)}\n{limits}",
    ]
    order = draw(st.permutations(parts))[:]
    text = "".join(draw(blanks) + draw(remarks) + part for part in order)
    return text + draw(remarks)
