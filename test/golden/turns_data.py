"""Chat templates in the shapes that published models use, and conversations: of turns.py and of test/matrix.

The templates are written for tests; their special tokens are the bos_token and eos_token of the model.
"""

TEMPLATES = {
    # Every turn alike, a newline behind the end of the turn.
    "chatml": (
        "{%- for m in messages %}{{ bos_token + m.role + '\\n' + m.content + eos_token + '\\n' }}{% endfor -%}"
        "{%- if add_generation_prompt %}{{ bos_token + 'assistant\\n' }}{% endif -%}"
    ),
    # White space around contents is trimmed.
    "trimmed": (
        "{{ bos_token }}{% for m in messages %}{{ '[' + m['role'] + ']\\n\\n' + m['content'] | trim + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '[assistant]\\n\\n' }}{% endif %}"
    ),
    # A blank on both sides of the answer; the system message goes into the user's turn.
    "inst": (
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set rules = messages[0]['content'] %}"
        "{% else %}{% set rest = messages %}{% set rules = '' %}{% endif %}"
        "{% for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% if m['role'] == 'user' %}{% if loop.first and rules %}{% set text = '(' + rules + ')\\n' + m['content'] %}"
        "{% else %}{% set text = m['content'] %}{% endif %}{{ bos_token + '[I] ' + text.strip() + ' [/I]' }}"
        "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    # Thoughts of earlier turns fall away; the last turn always has a thought, empty where there is none.
    "thoughts": (
        "{%- set ns = namespace(last=-1) %}{%- for m in messages %}{%- if m.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
        "{%- for m in messages %}{%- set text = m.content %}{%- set thought = '' %}"
        "{%- if m.reasoning_content is string %}{%- set thought = m.reasoning_content %}"
        "{%- elif '</think>' in text %}{%- set thought = text.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}"
        "{%- set text = text.split('</think>')[-1].lstrip('\\n') %}{%- endif %}"
        "{%- if m.role == 'assistant' and loop.index0 > ns.last %}"
        "{{- bos_token + m.role + '\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + text.lstrip('\\n') + eos_token + '\\n' }}"
        "{%- else %}{{- bos_token + m.role + '\\n' + text + eos_token + '\\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- bos_token + 'assistant\\n' }}"
        "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}"
    ),
    # The prompt opens a thought that an answer without one does not have.
    "open thought": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
        "{{ 'A: ' + (m.content.split('</think>')[-1] if loop.index0 < messages | length - 1 else m.content) + eos_token }}"
        "{% else %}{{ m.role[0] | upper + ': ' + m.content + '\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'A: <think>\\n' }}{% endif %}"
    ),
    # No token ends a turn.
    "plain": (
        "{% for m in messages %}{{ '### ' + m.role + ':\\n' + m.content + '\\n\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### assistant:\\n' }}{% endif %}"
    ),
    # Refuses a system message; joins the parts of a content.
    "parts": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "{{ '<' + ('model' if m.role == 'assistant' else m.role) + '>\\n' }}"
        "{% if m.content is string %}{{ m.content | trim }}{% else %}{% for part in m.content %}{% if part.type == 'text' %}{{ part.text | trim }}{% endif %}{% endfor %}{% endif %}"
        "{{ eos_token + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<model>\\n' }}{% endif %}"
    ),
    # Generation blocks around what the assistant says.
    "marked": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ 'A: ' }}{% generation %}{{ m.content + eos_token }}{% endgeneration %}{{ '\n' }}"
        "{% else %}{{ m.role[0] | upper + ': ' + m.content + '\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'A: ' }}{% endif %}"
    ),
    # Tools, calls and their results, documents, a name.
    "tools": (
        "{{ bos_token }}{% if tools %}{{ 'tools:' }}{% for t in tools %}{{ ' ' + t.function.name + '(' + t.function.description + ')' }}{% endfor %}{{ '\\n' }}{% endif %}"
        "{% if documents %}{% for d in documents %}{{ 'doc ' + d.title + ': ' + d.text + '\\n' }}{% endfor %}{% endif %}"
        "{% for m in messages %}{{ m.role }}{% if m.name %}{{ ' ' + m.name }}{% endif %}{{ ': ' }}"
        "{% if m.reasoning_content %}{{ '(' + m.reasoning_content + ') ' }}{% endif %}{% if m.content %}{{ m.content }}{% endif %}"
        "{% if m.tool_calls %}{% for c in m.tool_calls %}{{ '\\ncall ' + c.function.name }}{% for k, v in c.function.arguments.items() %}{{ ' ' + k + '=' + v | string }}{% endfor %}{% endfor %}{% endif %}"
        "{{ eos_token if m.role == 'assistant' else '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    ),
}


def user(content, **fields):
    return {"role": "user", "content": content, **fields}


def answer(content, **fields):
    return {"role": "assistant", "content": content, **fields}


def system(content):
    return {"role": "system", "content": content}


CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": "two"}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "the sum of two numbers",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]},
    },
}

# name: prompt, completion, what the row gives beside them
CONVERSATIONS = {
    "one turn": ([user("two and two")], [answer("four")], {}),
    "system": ([system("be brief"), user("two and two")], [answer("four")], {}),
    "empty system": ([system(""), user("two and two")], [answer("four")], {}),
    "developer": ([{"role": "developer", "content": "be brief"}, user("two and two")], [answer("four")], {}),
    "two turns": ([user("one"), answer("two"), user("three")], [answer("four")], {}),
    "three turns": ([system("count"), user("a"), answer("b"), user("c"), answer("d"), user("e")], [answer("f")], {}),
    "blank before": ([user("two and two")], [answer(" four")], {}),
    "blanks around": ([user("  two and two \n")], [answer("  four \n")], {}),
    "newlines before": ([user("\n\ntwo")], [answer("\n\nfour")], {}),
    "newlines after": ([user("two\n\n")], [answer("four\n\n")], {}),
    "tab": ([user("\ttwo\t")], [answer("\tfour\t")], {}),
    "blanks alone": ([user(" ")], [answer(" ")], {}),
    "empty answer": ([user("two")], [answer("")], {}),
    "empty question": ([user("")], [answer("four")], {}),
    "code": ([user("write f")], [answer("```python\ndef f(x):\n    return x ** 2\n```\n")], {}),
    "indented": ([user("go on")], [answer("    if x:\n\tpass\n")], {}),
    "math": ([user("What is \\frac{1}{2} of 10?")], [answer("$$\\frac{10}{2} = 5$$ so \\boxed{5}")], {}),
    "long digits": ([user("1234567890123 + 1")], [answer("1234567890124")], {}),
    "decimal": ([user("3.14159 * 2")], [answer("6.28318, about 6.3")], {}),
    "cjk": ([user("\u4e8c\u52a0\u4e8c\uff1f")], [answer("\u56db\u3002")], {}),
    "emoji": ([user("\U0001f600?")], [answer("\U0001f468\u200d\U0001f469\u200d\U0001f467!")], {}),
    "accents": ([user("cafe\u0301 na\u00efve")], [answer("\u00c5\u212b")], {}),
    "braces": ([user("{{ 7 * 7 }} {% if x %}")], [answer("{# no #} }}")], {}),
    "quotes": ([user("it's \"so\"")], [answer("'a' \\ \"b\"")], {}),
    "url": ([user("see https://example.com/a?b=c&d=e#f")], [answer("<b>bold</b> & more")], {}),
    "list": ([user("list")], [answer("1. one\n2. two\n\n- three\n")], {}),
    "thought in text": ([user("two and two")], [answer("<think>\nadd them\n</think>\n\nfour")], {}),
    "thought without newline": ([user("two and two")], [answer("<think>add</think>four")], {}),
    "empty thought": ([user("two and two")], [answer("<think>\n\n</think>\n\nfour")], {}),
    "end of a thought": ([user("two and two")], [answer("add them\n</think>\n\nfour")], {}),
    "earlier thought": ([user("one"), answer("<think>\nhm\n</think>\n\ntwo"), user("three")], [answer("<think>\nha\n</think>\n\nfour")], {}),
    "thought field": ([user("two and two")], [answer("four", reasoning_content="add them")], {}),
    "thinking field": ([user("two and two")], [answer("four", thinking="add them")], {}),
    "thinking off": ([user("two and two")], [answer("four")], {"chat_template_kwargs": {"enable_thinking": False}}),
    "thinking on": ([user("two and two")], [answer("<think>\nadd\n</think>\n\nfour")], {"chat_template_kwargs": {"enable_thinking": True}}),
    "tools": ([user("two and two")], [answer("four")], {"tools": [TOOL]}),
    "tool call": ([user("two and two")], [answer("", tool_calls=[CALL])], {"tools": [TOOL]}),
    "call without content": ([user("two and two")], [answer(None, tool_calls=[CALL])], {"tools": [TOOL]}),
    "tool result": (
        [user("two and two"), answer("", tool_calls=[CALL]), {"role": "tool", "name": "add", "tool_call_id": "c1", "content": "4"}],
        [answer("four")],
        {"tools": [TOOL]},
    ),
    "whole tool use": (
        [user("two and two")],
        [answer("let me see", tool_calls=[CALL]), {"role": "tool", "name": "add", "tool_call_id": "c1", "content": "4"}, answer("four")],
        {"tools": [TOOL]},
    ),
    "documents": ([user("two and two")], [answer("four")], {"documents": [{"title": "sums", "text": "2 + 2 = 4"}]}),
    "name": ([user("two and two", name="Ann")], [answer("four")], {}),
    "parts": ([user([{"type": "text", "text": "two"}, {"type": "text", "text": " and two"}])], [answer("four")], {}),
    "ends with user": ([user("one"), user("two and two")], [answer("four")], {}),
    "long answer": ([user("count")], [answer(" ".join(str(n) for n in range(60)))], {}),
}
