"""``snnlab export`` and ``snnlab import``: commands, their tables, and what they refuse."""

from __future__ import annotations

from light import without_jax

#: Arguments -> the error, without JAX.
REFUSED = {
    "export": "arguments are required: RUN, --to",
    "export nowhere --to nir": "nowhere holds no run",
    "export nowhere --to onnx": "no 'onnx'; valid: nir",
    "export nowhere --to nir --reader norsee": "did you mean 'norse'?",
}


def test_refusals_need_no_jax() -> None:
    found = without_jax("snnlab", list(REFUSED))
    for line, (code, out, error) in zip(REFUSED, found, strict=True):
        assert (code, out) == (2, ""), line
        assert REFUSED[line] in error, line
        assert error.count("\n") == 1, line
