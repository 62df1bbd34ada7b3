import pytest
from jinja2.exceptions import SecurityError

from graft.data.chat import ChatTemplate
from graft.data.encode import encode_conversation
from graft.data.sandbox import compiled, rendered
from graft.errors import DataError
from graft.records import Conversation, Message, Source
from tests.data.characters import Characters

LONG = "{% set r = range(99999) | list %}"
ENDLESS = [
    "{% for i in range(10**12) %}x{% endfor %}",
    LONG + "{% for a in r %}{% for b in r %}{% for c in r %}{% endfor %}{% endfor %}{% endfor %}",
    "{% macro m(n) %}{{ m(n - 1) ~ m(n - 1) if n }}{% endmacro %}{{ m(60) }}",
    "{{ 'a' * 10**11 }}",
    "{{ [0] * 10**11 }}",
    "{{ 2 ** (10 ** 10) }}",
    "{% set n = namespace(x=3) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = [n.x, n.x] | join %}{% endfor %}",
    "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x | replace('a', 'aa') %}{% endfor %}",
    "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x.replace('a', 'aa') %}{% endfor %}",
    "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x.join([n.x, n.x]) %}{% endfor %}",
    "{{ '%99999999999d' % 1 }}",
    "{{ '%99999999999d' | format(1) }}",
    "{{ '%*d' % (99999999999, 1) }}",
    "{{ '{:99999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 99999999999) }}",
    "{{ 'a'.ljust(99999999999) }}",
    "{{ 'a' | center(99999999999) }}",
    "{% set x = 'a' * 10**7 %}{% for i in range(10**5) %}{{ x }}{% endfor %}",
    LONG + "{% for i in r %}{% for j in r %}" + "words " * 1000 + "{% endfor %}{% endfor %}",
    "{{ [1] | tojson(indent=99999999999) }}",
]
ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.append(1) }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ raise_exception.__globals__ }}",
    "{{ ('' | attr('__class__')).__mro__ }}",
]


@pytest.mark.parametrize("source", ENDLESS)
def test_what_would_not_end_or_fill_the_memory_is_refused(source: str) -> None:
    with pytest.raises((SecurityError, OverflowError, RecursionError)):
        rendered(compiled(source), {"messages": []})


@pytest.mark.parametrize("source", ESCAPES)
def test_python_is_out_of_reach(source: str) -> None:
    try:
        found = rendered(compiled(source), {"messages": []})
    except SecurityError:
        found = ""
    assert found == ""


def test_what_a_template_may_do_it_does() -> None:
    source = """{%- generation %}{% for i in range(3) %}{{ i ~ '-' ~ loop.index }}{% if i %}{% break %}{% endif %}
{%- endfor %}{% endgeneration %}{{ {'é': [1, none]} | tojson }}{{ '%s %5.2f' | format('a', 1.5) }}{{ 'x' * 3 + 'y' }}
{{- ['a', 'b'] | join(', ') }}{{ 'aXa'.replace('a', 'b') | upper }}{{ 7 % 4 }}{{ '{:>3}'.format(1) }}{{ missing }}"""
    assert rendered(compiled(source), {}) == '0-11-2{"é": [1, null]}a  1.50xxxya, bBXB3  1'


def test_a_template_that_does_not_end_is_an_error_of_its_row() -> None:
    said = Conversation((Message("user", "q"), Message("assistant", "a", trained=True)), Source("rows.json", 3))
    with pytest.raises(DataError, match=r"rows\.json:3: .* goes on for too long"):
        encode_conversation(said, ChatTemplate(ENDLESS[1]), Characters())
