import t from 'tap';
import { Template } from '../../lib/data/jinja/template.js';
import { readGolden } from '../helpers/golden.js';

// Expressions and templates of every kind against what Jinja2 renders in the environment of transformers
// (test/golden/jinja_templates.py). What is not done here is refused by name; nothing differs in silence.

interface GoldenTemplate {
  template: string;
  text?: string;
  generation?: [number, number][];
  error?: string;
}

const golden = readGolden<{ context: Record<string, unknown>; groups: Record<string, GoldenTemplate[]> }>(
  'jinja',
);
const limits = { timeoutMs: 20_000, maxOutputLength: 1_000_000 };
/** What Jinja2 does and this does not, with the words of the refusal. */
const REFUSED: Readonly<Record<string, RegExp>> = {
  "{{ 'abc'.encode() }}": /^\.encode of a str is not supported$/,
  '{{ [1, 2, 3]|random }}': /^the filter random is not supported$/,
  "{{ 'a'|pprint }}": /^the filter pprint is not supported$/,
  '{{ self }}': /^self is not supported$/,
  '{% for x in lst %}{{ x in loop }}{% endfor %}':
    /^reading a loop ahead by its own object is not supported$/,
  '{% block a %}b{% endblock %}': /^\{% block %\} is not supported$/,
};

for (const [group, cases] of Object.entries(golden.groups)) {
  t.test(`Jinja2's own results: ${group}`, async (t) => {
    for (const [i, { template, text, generation, error }] of cases.entries()) {
      const render = () => new Template(template).render(golden.context, undefined, limits);
      const refusal = REFUSED[template];
      if (refusal !== undefined) t.throws(render, { message: refusal }, `${i}: is refused by name`);
      else if (error !== undefined) t.throws(render, { name: 'TemplateError' }, `${i}: is refused by both`);
      else t.strictSame({ template, ...render() }, { template, text, generation }, `${i}: is the same`);
    }
  });
}

t.test('random templates: the same text, or both refuse', async (t) => {
  const random = readGolden<{ variables: Record<string, unknown>; cases: GoldenTemplate[] }>('jinja-random');
  const refused: string[] = [];
  for (const { template, ...expected } of random.cases) {
    let actual: Omit<GoldenTemplate, 'template'>;
    try {
      actual = new Template(template).render(random.variables, undefined, limits);
    } catch (error) {
      t.match(error, { name: 'TemplateError' }, template);
      const message = (error as Error).message;
      if (expected.error === undefined && message.endsWith(' is not supported')) refused.push(message);
      else if (expected.error === undefined) t.fail(`${template}: ${message}`);
      continue;
    }
    t.strictSame({ template, ...actual }, { template, ...expected });
  }
  const ofSafeText = ['.split of safe text', '.removeprefix of safe text', 'this filter of safe text'];
  t.strictSame(
    refused,
    ofSafeText.map((what) => `${what} is not supported`),
    'and what is refused by name',
  );
});

t.test('numbers of JSON keep their kind', async (t) => {
  const render = (source: string, value: unknown) =>
    new Template(source).render({ value }, undefined, limits).text;
  t.equal(render('{{ value }} {{ value is integer }}', 3), '3 True');
  t.equal(
    render('{{ value }} {{ value|tojson }}', { a: new Number(3), b: 0.5 }),
    '{\'a\': 3.0, \'b\': 0.5} {"a": 3.0, "b": 0.5}',
  );
  t.equal(render('{{ value + 1 }}', 2n ** 64n), '18446744073709551617');
  t.equal(
    render(
      '{{ value }}',
      new Map([
        ['10', 1],
        ['2', 2],
      ]),
    ),
    "{'10': 1, '2': 2}",
    'the order of the keys',
  );
});
