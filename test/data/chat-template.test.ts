import fc from 'fast-check';
import t from 'tap';
import { ChatTemplate } from '../../lib/data/chat-template.js';
import { SpecialTokens } from '../../lib/data/special-tokens.js';
import type { Message } from '../../lib/types.js';
import { readGolden } from '../helpers/golden.js';

interface Golden {
  now: [number, number, number, number, number, number];
  templates: { name: string; template: string; messages: Message[]; text: string }[];
}

const golden = readGolden<Golden>('tokenizer');

t.test('chat templates render as in transformers', async (t) => {
  const now = new Date(...golden.now);
  const variables = { bos_token: '<s>', eos_token: '</s>' };
  for (const { name, template, messages, text } of golden.templates) {
    const chat = new ChatTemplate(template, { variables, now });
    const renderings = await chat.render([{ messages, addGenerationPrompt: true }]);
    t.equal('text' in renderings[0]! && renderings[0].text, text, name);
  }
});

t.test('a chat template is held to its limits and does not disturb the rest', async (t) => {
  const job = (content: string) => ({ messages: [{ role: 'user', content }], addGenerationPrompt: true });
  const run = async (source: string, options = {}) => {
    const chat = new ChatTemplate(source, {
      timeoutMs: 20_000,

      maxOutputLength: 10_000,
      ...options,
    });
    const [rendering] = await chat.render([job('x')]);
    return rendering !== undefined && 'error' in rendering
      ? rendering.error
      : { code: 'none', message: 'no error' };
  };
  const nested = '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}';
  t.match(await run(nested, { timeoutMs: 300 }), {
    code: 'INVALID_CHECKPOINT',
    message: /ran for more than 300 ms/,
  });
  t.match(await run('{% for i in range(9999) %}abc{% endfor %}'), {
    code: 'INVALID_CHECKPOINT',
    message: /more characters than the limit of 10000/,
  });
  t.match(await run('{{ range(2000000) }}'), { code: 'INVALID_CHECKPOINT', message: /range\(\) of 2000000/ });
  const growing = (value: string, next: string) =>
    `{% set ns = namespace(l=${value}) %}{% for i in range(9999) %}{% set ns.l = ${next} %}{% endfor %}`;
  for (const source of [
    growing('[1]', 'ns.l + ns.l'),
    growing("'x'", 'ns.l * 2'),
    "{{ 'x'|center(99999999) }}",
  ]) {
    t.match(
      await run(source),
      { code: 'INVALID_CHECKPOINT', message: /a text or list of \d+ elements/ },
      source,
    );
  }
  t.match(await run(growing('[]', '[ns.l, range(100000)|list]')), {
    code: 'INVALID_CHECKPOINT',
    message: /process ended, probably for lack of memory/,
  });
  t.match(await run('{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}'), {
    code: 'INVALID_CHECKPOINT',
    message: /RecursionError/,
  });
  t.match(await run('{{ 9 ** 99999 }}'), {
    code: 'INVALID_CHECKPOINT',
    message: /an int of more than 4096 bits/,
  });
  t.match(await run("{{ raise_exception('Roles must alternate') }}"), {
    code: 'INVALID_DATA',
    message: 'the chat template refuses the conversation: Roles must alternate',
  });
  for (const source of ['{% for %}', '{{ unknown_function() }}', "{{ 'x' | no_such_filter }}", '{{']) {
    t.match(await run(source), { code: 'INVALID_CHECKPOINT', message: /cannot be used/ }, source);
  }
  t.match(await run("{{ strftime_now('%Q') }}"), {
    code: 'INVALID_CHECKPOINT',
    message: /strftime_now does not know %Q/,
  });

  const mixed = new ChatTemplate(
    "{% if messages[0].content == 'loop' %}" +
      nested +
      "{% elif messages[0].content == 'no' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}",
    { timeoutMs: 2000 },
  );
  const renderings = await mixed.render(['a', 'no', 'loop', 'b'].map(job));
  t.match(renderings, [
    { text: 'a' },
    { error: { code: 'INVALID_DATA' } },
    { error: { code: 'INVALID_CHECKPOINT' } },
    { text: 'b' },
  ]);
  const both = await Promise.all([mixed.render([job('c')]), mixed.render([job('d'), job('e')])]);
  t.match(both, [[{ text: 'c' }], [{ text: 'd' }, { text: 'e' }]]);
  await mixed.dispose();
  t.match(await mixed.render([job('f')]), [{ text: 'f' }], 'a disposed template starts again');
  await mixed.dispose();
});

t.test('hiding special tokens is exact', async (t) => {
  const token = (id: number, content: string) => ({
    id,
    content,
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  });
  const special = new SpecialTokens([
    token(1, '<a>'),
    token(2, '<a><a>'),
    token(3, '\u{1f600}!'),
    { ...token(4, '[x]'), lstrip: true, rstrip: true },
  ]);
  t.strictSame(
    special.split('u<a><a>v<a>'),
    [{ text: 'u' }, { id: 2 }, { text: 'v' }, { id: 1 }],
    'the longest wins',
  );
  t.strictSame(special.split('u  [x]  v'), [{ text: 'u' }, { id: 4 }, { text: 'v' }], 'lstrip and rstrip');
  const piece = fc.constantFrom('<', 'a', '>', '\u{1f600}', '!', '\ue000', '\ue001', '[x]', ' ');
  fc.assert(
    fc.property(
      fc.array(piece).map((pieces) => pieces.join('')),
      (text) => {
        const hiding = special.hiding([text]);
        if (hiding === undefined) return special.split(text).every((section) => 'text' in section);
        const hidden = hiding.hide(text);
        return hiding.reveal(hidden) === text && hidden.length === text.length;
      },
    ),
    { seed: 5, numRuns: 1000 },
  );
});
