"""Templates: what may be referred to, what pipes do, and what a message says."""

from __future__ import annotations

import base64
import string
from urllib.parse import unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.references import is_identifier
from api.templates import (
    IDENTITY_ROOTS,
    INPUT_ROOTS,
    MissingValue,
    Pipe,
    Reference,
    Segment,
    Template,
    TemplateError,
    Values,
    check_roots,
    refers_to_empty,
)

VALUES: Values = {
    "Metadata": {
        "name": "shop",
        "namespace": "team-a",
        "uid": "0c7e",
        "labels": {"team": "Blue"},
        "annotations": {"note": "{{ .Params.x }}"},
    },
    "Params": {"size": "10", "empty": "", "odd": "a b&c/ü", "größe": "XL"},
    "Endpoint": {"name": "eu", "host": "db.example.org", "port": "5432", "database": "postgres"},
}

keys = st.text(st.sampled_from(string.ascii_letters + "_äΩ字9"), min_size=1, max_size=8).filter(is_identifier)
texts = st.text(max_size=30) | st.sampled_from(
    ["{{", "}}", "{{ .Params.size }}", '"', "'", "`", "\\", "\n", "\r\n", "\0", "🐘", "%s", "{{/* */}}"]
)
pipes = st.one_of(
    st.sampled_from([Pipe("urlquery"), Pipe("lower"), Pipe("upper"), Pipe("b64enc")]),
    st.builds(Pipe, st.just("default"), texts),
    st.builds(Pipe, st.just("trunc"), st.integers(-99, 99)),
)
paths = st.one_of(
    st.sampled_from([("Metadata", key) for key in ("name", "namespace", "uid")]),
    st.sampled_from([("Endpoint", key) for key in ("name", "host", "port", "database")]),
    st.sampled_from([("Operation", "id"), ("Generated", "password")]),
    st.tuples(st.sampled_from(["Params", "Result"]), keys),
    st.tuples(st.just("Metadata"), st.sampled_from(["labels", "annotations"]), keys),
)
references = st.builds(Reference, paths, st.lists(pipes, max_size=3).map(tuple))
# A text that begins or contains {{ cannot be written in a template; a bound one may hold anything.
writable = texts.filter(lambda text: "{" not in text)


def render(source: str, values: Values = VALUES) -> str:
    return Template.parse(source).render(values)


@given(references)
def test_a_reference_written_out_reads_back_as_itself(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference


@given(st.lists(writable | references, max_size=6))
def test_a_template_is_its_texts_and_references(segments: list[Segment]) -> None:
    source = "".join(s if isinstance(s, str) else f"{{{{{s}}}}}" for s in segments)

    assert Template.parse(source) == Template(tuple(segments))


@given(st.text())
def test_any_text_is_a_template_or_a_template_error(source: str) -> None:
    try:
        template = Template.parse(source)
    except TemplateError:
        assert "{{" in source
    else:
        assert template.references or template.literal == source


@given(st.text(st.sampled_from('{}|."`\\ \n-aParmsxdefultrnc5'), max_size=40))
def test_broken_syntax_is_a_template_error_and_never_a_crash(inside: str) -> None:
    try:
        reference = Reference.parse(f".Params.x{inside}")
    except TemplateError:
        return
    assert Reference.parse(str(reference)) == reference


@given(
    st.lists(texts | st.tuples(st.sampled_from(["Params", "Result"]), keys).map(Reference), max_size=6),
    st.data(),
)
def test_binding_in_steps_renders_as_binding_at_once(segments: list[Segment], data: st.DataObject) -> None:
    template = Template(tuple(segments))
    parts = {
        root: {r.path[1]: data.draw(texts) for r in template.references if r.root == root}
        for root in ("Params", "Result")
    }
    first, second = {"Params": parts["Params"]}, {"Result": parts["Result"]}

    assert template.bind(first).bind(second).literal == template.render(parts)
    assert template.bind(second).render(first) == template.render(parts)


@given(texts, texts, texts)
def test_a_value_arrives_as_it_is_whatever_it_contains(before: str, value: str, after: str) -> None:
    template = Template((before, Reference(("Params", "x")), after))

    assert template.render({"Params": {"x": value}}) == before + value + after


@given(texts)
def test_pipes_that_encode_lose_nothing(value: str) -> None:
    values = {"Params": {"x": value}}

    encoded = render("{{ .Params.x | urlquery }}", values)
    # Wherever in a URI it stands: in a query, in a path, in a password.
    assert unquote_plus(encoded) == unquote(encoded) == value
    assert base64.b64decode(render("{{ .Params.x | b64enc }}", values)).decode() == value


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        ("plain } }} { text", "plain } }} { text"),
        ("{{ .Metadata.name }}-{{.Metadata.namespace}}", "shop-team-a"),
        ("{{ .Metadata.labels.team }}", "Blue"),
        ("{{ .Metadata.annotations.note }}", "{{ .Params.x }}"),
        ("{{ .Params.size }}/{{ .Parameters.size }}", "10/10"),
        ("{{ .Params.größe }}", "XL"),
        ("{{\t.Endpoint.host }}:{{ .Endpoint.port}}", "db.example.org:5432"),
        ("{{ .Params.odd | urlquery }}", "a%20b%26c%2F%C3%BC"),
        ("{{ .Metadata.labels.team|lower }}{{ .Metadata.name | upper }}", "blueSHOP"),
        ("{{ .Metadata.namespace | trunc 4 }}|{{ .Metadata.namespace | trunc -1 }}", "team|a"),
        (
            "{{ .Metadata.name | trunc 99 }}|{{ .Metadata.name | trunc -99 }}|{{ .Metadata.name | trunc 0 }}",
            "shop|shop|",
        ),
        (
            '{{ .Params.missing | default "x" }}{{ .Params.empty | default "y" }}{{ .Params.size | default "z" }}',
            "xy10",
        ),
        ('{{ .Params.missing | upper | default "x" }}', "x"),
        ('{{ .Params.missing | default "x" | upper | b64enc }}', "WA=="),
        ('{{ .Params.missing | default "" }}', ""),
        ('{{ .Params.missing | default "}}|\\"\\n\\x41\\u00e4\\101\\U0001f418" }}', '}}|"\nAäA🐘'),
        ('{{ .Params.missing | default `}}\\n"` }}', '}}\\n"'),
        ("{{ .Params.odd }}}}", "a b&c/ü}}"),
    ],
)
def test_a_template_renders(source: str, text: str) -> None:
    assert render(source) == text


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ .Params.x", "not closed"),
        ("{{ .Params.x\n}}", "one line"),
        ('{{ .Params.x | default "a }}', "quote"),
        ("{{}}", "empty"),
        ("{{- .Params.x }}", "trim markers"),
        ("{{ .Params.x -}}", "trim markers"),
        ("{{/* hidden */}}", "comments"),
        ("{{ if .Params.x }}", "not supported"),
        ("{{ range .Params }}{{ end }}", "not supported"),
        ('{{ printf "%s" .Params.x }}', "not supported"),
        ('{{ index .Params "x" }}', "not supported"),
        ("{{ $x := .Params.x }}", "not supported"),
        ("{{ (.Params.x) }}", "not supported"),
        ("{{ . }}", "not supported"),
        ('{{ "text" }}', "not supported"),
        ("{{ .Params.a-b }}", "not supported"),
        ("{{ .Params.x .Params.y }}", "not supported"),
        ("{{{ .Params.x }}", "not supported"),
        ("{{ .Params.x | }}", "goes on"),
        ("{{ .Params.x || lower }}", "goes on"),
        ("{{ .Params.x | quote }}", "no pipe quote"),
        ('{{ .Params.x | lower "a" }}', "no argument"),
        ("{{ .Params.x | default }}", 'default "x"'),
        ("{{ .Params.x | default 5 }}", 'default "x"'),
        ("{{ .Params.x | default .Params.y }}", 'default "x"'),
        ('{{ .Params.x | default "\\q" }}', "escape"),
        ('{{ .Params.x | default "\\ud800" }}', "no character"),
        ('{{ .Params.x | default "\\xff" }}', "UTF-8"),
        ("{{ .Params.x | trunc }}", "trunc 63"),
        ("{{ .Params.x | trunc x }}", "trunc 63"),
        ("{{ .Params.x | trunc 010 }}", "trunc 63"),
        ("{{ .Values.x }}", ".Metadata, .Params"),
        ("{{ .Params }}", "write .Params.key"),
        ("{{ .Metadata }}", "write .Metadata.name"),
        ("{{ .Metadata.kind }}", ".Metadata.name, .Metadata.namespace"),
        ("{{ .Metadata.labels }}", "write .Metadata.labels.key"),
        ("{{ .Metadata.labels.a.b }}", ".Metadata.labels.a is a text"),
        ("{{ .Params.x.y }}", ".Params.x is a text"),
        ("{{ .Params.1x }}", "begins with no digit"),
        ("{{ .Operation.name }}", ".Operation.id"),
        ("{{ .Generated.user }}", ".Generated.password"),
    ],
)
def test_what_is_not_supported_is_refused_with_template_and_cure(source: str, words: str) -> None:
    with pytest.raises(TemplateError) as refusal:
        Template.parse(source)

    assert words in str(refusal.value)
    assert source in str(refusal.value)


def test_a_place_takes_its_own_roots_only() -> None:
    with pytest.raises(TemplateError, match=r"\.Result\.dsn cannot be used here; available are \.Endpoint"):
        Template.parse("{{ .Result.dsn }}", INPUT_ROOTS)
    with pytest.raises(TemplateError, match=r"\.Operation\.id cannot be used here"):
        check_roots(Template.parse("{{ .Operation.id }}"), IDENTITY_ROOTS)
    check_roots(Template.parse("{{ .Params.x }}"), IDENTITY_ROOTS)


def test_a_root_without_values_stays_open_and_the_rest_is_bound() -> None:
    bound = Template.parse("{{ .Metadata.name }}:{{ .Generated.password }}").bind(VALUES)

    assert bound == Template(("shop:", Reference(("Generated", "password"))))
    assert bound.literal is None
    assert bound.render({"Generated": {"password": "{{pw}}"}}) == "shop:{{pw}}"


def test_a_key_without_value_is_named_with_what_there_is() -> None:
    with pytest.raises(MissingValue) as missing:
        render("x-{{ .Params.color }}")

    assert missing.value.reference == Reference(("Params", "color"))
    assert str(missing.value) == (
        'template "x-{{ .Params.color }}": .Params.color has no value; '
        "available are .Params.empty, .Params.größe, .Params.odd, .Params.size"
    )


def test_a_missing_label_is_named_with_the_labels_there_are() -> None:
    with pytest.raises(MissingValue, match=r"available are \.Metadata\.labels\.team$"):
        render("{{ .Metadata.labels.tier }}")
    with pytest.raises(MissingValue, match=r"there is no \.Metadata\.labels at all"):
        render("{{ .Metadata.labels.tier }}", {"Metadata": {"name": "a"}})


def test_a_reference_that_stays_open_cannot_be_rendered() -> None:
    with pytest.raises(MissingValue, match=r"\.Result\.dsn is not known here"):
        render("{{ .Result.dsn }}")


def test_messages_and_printed_templates_hold_no_value() -> None:
    secret = "correct horse"
    bound = Template.parse("{{ .Generated.password }}{{ .Result.a }}{{ .Params.b }}").bind(
        {"Generated": {"password": secret}}
    )

    assert secret not in repr(bound)
    for values in ({"Result": {"x": secret}}, {"Params": {"b": secret}}):
        with pytest.raises(TemplateError) as refusal:
            bound.render(values)

        assert secret not in str(refusal.value)


def test_missing_references_are_all_found() -> None:
    template = Template.parse(
        '{{ .Params.a }}{{ .Params.b | default "" }}{{ .Params.size }}{{ .Result.c }}{{ .Metadata.labels.d }}'
    )

    assert [reference.name for reference in template.missing(VALUES)] == [".Params.a", ".Metadata.labels.d"]


@pytest.mark.parametrize(
    ("source", "empty"),
    [
        ("postgres://u:{{ .Result.password | urlquery }}@h", True),
        ("{{ .Result.username }}{{ .Result.password }}", True),
        ("{{ .Result.username }}", False),
        ("constant", False),
        ('{{ .Result.password | default "none" }}', False),
        ('{{ .Result.password | default "" }}', True),
        ('{{ .Result.password | b64enc | default "none" }}', False),
        ("{{ .Result.absent }}", False),
        ("{{ .Params.empty }}", False),
        ("{{ .Result.username | trunc 0 }}", False),
    ],
)
def test_emptiness_is_judged_on_the_result_not_on_the_text(source: str, *, empty: bool) -> None:
    result: Values = {**VALUES, "Result": {"username": "u", "password": ""}}

    assert refers_to_empty(Template.parse(source), result) is empty


def test_a_broken_template_of_any_length_is_refused_at_once() -> None:
    for source in (
        "{{ " + '"a" ' * 20000,
        "{{ .Params." + "a." * 20000,
        "{{ .Params.x " + "| lower " * 20000 + "|}}",
        "{{ " + "x " * 20000 + "}}",
        "{{ .x" + "y" * 20000 + "}}",
    ):
        with pytest.raises(TemplateError) as refusal:
            Template.parse(source)

        assert len(str(refusal.value)) < 1000
