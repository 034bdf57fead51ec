"""Records what Jinja2 makes of our template snippets, for node/chat/jinja's tests.

    pip install jinja2==3.1.6
    python3 make_reference.py ../jinja/testdata/reference.json

The environment is set up as chat templates get it: trim_blocks, lstrip_blocks, loop
controls, a tojson that is json.dumps, raise_exception and strftime_now (at a fixed
time). It is the sandbox that lets templates change lists and dicts. Every snippet is
rendered with the same variables; the file holds the output or the error of each.
All templates were written for this file.
"""
import datetime
import json
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import SandboxedEnvironment

from snippets import FAMILIES, SNIPPETS

NOW = datetime.datetime(2026, 3, 7, 9, 5, 2, 1234)


class RaisedByTemplate(Exception):
    pass


class Generation(jinja2.ext.Extension):
    """{% generation %}…{% endgeneration %}: a scope whose body is printed."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def environment():
    env = SandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise RaisedByTemplate(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: NOW.strftime(f)
    return env


VARS = {
    "name": "World", "n": 7, "zero": 0, "neg": -3, "pi": 3.14159, "big": 1e20, "small": 1.5e-7, "half": 2.5,
    "yes": True, "no": False, "nothing": None, "empty": "", "text": "  The quick  brown fox\n jumps \n",
    "html": "<b>\"it's\" & more</b>", "uni": "naïve 日本 😀", "csv": "a,b,,c", "multi": "one\ntwo\r\nthree\n\nfive",
    "nums": [3, 1, 2, 3], "floats": [1.5, 2.0, -0.25], "words": ["pear", "Apple", "fig", "apple"], "none_list": [],
    "mixed": [1, "a", None, True, 2.5, [1, "x"], {"k": "v"}], "d": {"b": 2, "a": 1, "C": 3, "items": "shadow"},
    "nested": {"x": {"y": [10, {"z": "deep"}]}, "list": [[1, 2], [3, 4]]},
    "people": [{"name": "Ann", "age": 31, "city": "Oslo", "tags": ["x"]},
               {"name": "bob", "age": 25, "city": "Rome", "tags": []},
               {"name": "Cid", "age": 31, "city": "oslo"}],
    "tree": [{"v": "a", "kids": [{"v": "b", "kids": [{"v": "c", "kids": []}]}, {"v": "d", "kids": []}]}, {"v": "e", "kids": []}],
    "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True,
    "messages": [{"role": "system", "content": "Be brief. "},
                 {"role": "user", "content": " Hello <x> & 'y' "},
                 {"role": "assistant", "content": "Hi!"},
                 {"role": "user", "content": "Weather?"}],
    "thinking": [{"role": "user", "content": "2+2?"},
                 {"role": "assistant", "content": "<think>\neasy\n</think>\n\n4"},
                 {"role": "user", "content": "sure?"}],
    "calls": [{"role": "user", "content": "Weather in Oslo?"},
              {"role": "assistant", "content": None, "tool_calls": [
                  {"id": "call12345", "type": "function", "function": {
                      "name": "get_weather", "arguments": {"place": "Oslo", "days": 2, "exact": True, "x": None, "t": 1.0}}}]},
              {"role": "tool", "name": "get_weather", "tool_call_id": "call12345", "content": "{\"temp\": 4}"},
              {"role": "assistant", "content": "4 degrees."},
              {"role": "user", "content": "Thanks"}],
    "parts": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
    "tools": [{"type": "function", "function": {
        "name": "get_weather", "description": "Weather <now> & \"later\" — é",
        "parameters": {"type": "object", "properties": {
            "place": {"type": "string", "description": "Town"},
            "unit": {"type": "string", "enum": ["c", "f"]},
            "days": {"type": "integer", "default": 1},
            "tags": {"type": "array", "items": {"type": "string"}}},
            "required": ["place"]}}}],
}


def classify(e):
    """The kind of an error as the tests name it, and its text where it is promised."""
    if isinstance(e, RaisedByTemplate):
        return {"error": "raised", "message": str(e)}
    if isinstance(e, jinja2.UndefinedError):
        return {"error": "undefined", "message": str(e)}
    if isinstance(e, jinja2.TemplateSyntaxError):
        return {"error": "syntax"}
    return {"error": "other"}


def main(path):
    env = environment()
    cases = []
    for group in (SNIPPETS, FAMILIES):
        for name, source in group:
            case = {"name": name, "template": source}
            try:
                # Fresh variables each time: a template may change them.
                case["output"] = env.from_string(source).render(**json.loads(json.dumps(VARS)))
            except Exception as e:
                case.update(classify(e))
            cases.append(case)
    names = [c["name"] for c in cases]
    assert len(set(names)) == len(names), [n for n in names if names.count(n) > 1]
    with open(path, "w") as f:
        json.dump({"tool": "Jinja2 " + jinja2.__version__, "vars": VARS, "cases": cases}, f, indent=1)
        f.write("\n")
    errors = sum("error" in c for c in cases)
    print(len(cases), "cases,", errors, "errors")


if __name__ == "__main__":
    main(sys.argv[1])
