import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { encodeSftExamples } from '../../lib/data/sft-examples.js';
import { TextNotices } from '../../lib/data/text-notices.js';
import { Tokenizer, type TokenizerOptions } from '../../lib/data/tokenizer.js';
import type { Message, TemplateInputs } from '../../lib/types.js';
import { checkpoint, readGolden } from '../helpers/golden.js';

type Cell = { error: string } | { prompt: number[]; whole: number[]; start: number; marked?: number[] };

interface Golden {
  templates: Record<string, string>;
  rows: Record<string, { prompt: Message[]; completion: Message[] } & TemplateInputs>;
  cells: Record<string, Record<string, Cell>>;
}

const golden = readGolden<Golden>('turns');
const [BOS, EOS] = [1, 2];

async function load(t: Test, template: string, options: TokenizerOptions = {}, files: object = {}) {
  const directory = t.testdir();
  await mkdir(directory, { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    await cp(join(checkpoint('options'), name), join(directory, name));
  }
  await writeFile(join(directory, 'chat_template.jinja'), template);
  for (const [name, value] of Object.entries(files))
    await writeFile(join(directory, name), JSON.stringify(value));
  const tokenizer = await Tokenizer.load(directory, options);
  t.teardown(() => tokenizer.dispose());
  return tokenizer;
}

/** What TRL trains, up to the token that ends the turn; where there is none, the text and the stop token. */
function completionOf({ whole, start }: Exclude<Cell, { error: string }>, decode: (ids: number[]) => string) {
  const ids = whole.slice(start);
  const end = Math.max(ids.lastIndexOf(EOS), ids.lastIndexOf(BOS));
  return end !== -1 && decode(ids.slice(end + 1)).trim() === '' ? ids.slice(0, end + 1) : undefined;
}

for (const [name, template] of Object.entries(golden.templates)) {
  t.test(`${name}: prompts, completions and whole conversations are TRL's`, async (t) => {
    const tokenizer = await load(t, template);
    const decode = (ids: number[]) => tokenizer.decode(ids);
    // A template that does not read parts gets their texts joined, in whose place Jinja2 fails or prints the list.
    const cells = Object.entries(golden.cells[name]!).map(([row, own]) => {
      const cell = row === 'parts' && name !== 'parts' ? golden.cells[name]!['one turn']! : own;
      return { row, cell, ...golden.rows[row]! };
    });
    const rendered = cells.filter(({ cell }) => !('error' in cell));
    t.ok(rendered.length >= 30, `${rendered.length} conversations`);
    const asked = rendered.map(({ row, cell: _, completion, ...inputs }) => ({
      id: row,
      ...inputs,
      completion,
    }));
    const prompts = await tokenizer.promptIdsAll(asked);
    const exchanges = await tokenizer.exchanges(
      asked.map(({ completion, ...inputs }) => ({ ...inputs, responses: [completion] })),
    );
    const wholes = await tokenizer.conversations(
      asked.map(({ completion, ...inputs }) => ({ ...inputs, response: completion })),
    );
    for (const [i, { row, cell }] of rendered.entries()) {
      const { prompt, whole, start } = cell as Exclude<Cell, { error: string }>;
      t.strictSame(prompts[i], prompt, `${row}: prompt`);
      t.strictSame(exchanges[i]?.promptIds, prompt.slice(0, start), `${row}: what the completion follows`);
      t.strictSame(wholes[i]?.ids, whole, `${row}: whole`);
      const { marked } = cell as { marked?: number[] };
      if (marked !== undefined) {
        const trained = whole.map(() => 0);
        for (const [first, end] of wholes[i]!.generated()) trained.fill(1, first, end);
        t.strictSame(trained, marked, `${row}: marked`);
      }
      const expected = completionOf({ prompt, whole, start }, decode);
      if (expected !== undefined) t.strictSame(exchanges[i]?.responses[0], expected, `${row}: completion`);
      else t.equal(exchanges[i]?.responses[0]?.at(-1), EOS, `${row}: ends with the stop token`);
    }
    for (const { row, cell, completion, prompt, ...inputs } of cells) {
      if (!('error' in cell)) continue;
      const refused = tokenizer.exchanges([{ id: row, prompt, ...inputs, responses: [completion] }]);
      await t.rejects(refused, { name: 'CreamError', message: `prompt ${row}: ` }, `${row}: ${cell.error}`);
    }
  });
}

const QUESTION: Message[] = [{ role: 'user', content: 'two and two' }];

t.test(
  'where the prompt is no beginning of the whole, the response begins where both part, told once',
  async (t) => {
    const tokenizer = await load(t, golden.templates['open thought']!);
    const notices = new TextNotices();
    const inputs = ['a', 'b'].map((id) => ({ id, prompt: QUESTION, responses: ['four'] }));
    const [exchange] = await tokenizer.exchanges(inputs, { notices });
    t.equal(tokenizer.decode(exchange!.leftOut), '<think>\n');
    t.equal(
      tokenizer.decode([...exchange!.promptIds, ...exchange!.responses[0]!]),
      '<s>U: two and two\nA: four</s>',
    );
    const [warning, ...others] = notices.warnings('rows.jsonl');
    t.strictSame(others, []);
    t.equal(warning?.code, 'prompt-parted');
    t.match(warning?.message, /^rows\.jsonl: .* of 2 responses: .*"<think>\\n" at its end.*first in a/);
    await t.rejects(tokenizer.exchanges(inputs, { prefixMismatch: 'error' }), {
      code: 'INVALID_DATA',
      message: /^prompt a: .*"<think>\\n" at its end is not there/,
    });
  },
);

t.test('a turn ends with the token of the template, and sampling stops there', async (t) => {
  const template = "{% for m in messages %}{{ m.role + ': ' + m.content }}<s>\n{% endfor %}";
  const tokenizer = await load(t, template, {}, { 'generation_config.json': { eos_token_id: EOS } });
  t.strictSame(tokenizer.eosIds, [EOS]);
  const notices = new TextNotices();
  const [ids] = await tokenizer.responseIdsAll([{ text: 'four', prompt: QUESTION }], { notices });
  t.equal(ids?.at(-1), BOS);
  t.strictSame(tokenizer.eosIds, [EOS, BOS]);
  t.equal(await tokenizer.turnEndId(), BOS);
  t.match(notices.warnings('x')[0], {
    code: 'turn-end-no-stop-token',
    message: /turns with <s>.*they are <\/s>/,
  });
});

t.test('special tokens in any field of a message stay text, and are told of', async (t) => {
  const tokenizer = await load(t, golden.templates['tools']!);
  const hostile = 'a</s><s>b';
  const notices = new TextNotices();
  const prompt: Message[] = [{ role: 'user', content: hostile, name: hostile }];
  const call = { type: 'function', function: { name: hostile, arguments: { x: hostile } } };
  const response: Message[] = [
    { role: 'assistant', content: hostile, reasoning_content: hostile, tool_calls: [call] },
  ];
  const [exchange] = await tokenizer.exchanges([{ prompt, responses: [response] }], { notices });
  const special = [...exchange!.promptIds, ...exchange!.responses[0]!].filter(
    (id) => id === BOS || id === EOS,
  );
  t.strictSame(special, [BOS, EOS], 'those of the template alone');
  t.equal(notices.warnings('x')[0]?.code, 'special-tokens-in-text');
  call.function.arguments = { x: '', [hostile]: '' } as never;
  await t.rejects(
    tokenizer.exchanges([{ prompt, responses: [response] }]),
    /makes special tokens out of/,
    'as a key',
  );
});

t.test('of a conversation all turns, the last or the marked ones are learnt', async (t) => {
  const turns: Message[] = [
    ...QUESTION,
    { role: 'assistant', content: 'four' },
    { role: 'user', content: 'so' },
  ];
  const record = { id: 'r', prompt: turns, response: 'ten', isConversation: true };
  const shown = (tokenizer: Tokenizer, examples: Awaited<ReturnType<typeof encodeSftExamples>>) =>
    examples.map(({ promptIds, responseIds, trained }) => [
      tokenizer.decode(promptIds),
      tokenizer.decode(responseIds),
      tokenizer.decode(responseIds.filter((_, i) => trained?.[i] !== 0)),
    ]);
  const chatml = await load(t, golden.templates['chatml']!);
  const head = '<s>user\ntwo and two</s>\n<s>assistant\n';
  const rest = 'four</s>\n<s>user\nso</s>\n<s>assistant\nten</s>';
  t.strictSame(shown(chatml, await encodeSftExamples([record], chatml, { loss: 'all' })), [
    [head, rest, 'four</s>ten</s>'],
  ]);
  const last = await encodeSftExamples([record], chatml, { loss: 'last' });
  t.strictSame(shown(chatml, last), [[head + rest.slice(0, -7), 'ten</s>', 'ten</s>']]);
  const completion = await encodeSftExamples([{ ...record, isConversation: false }], chatml, { loss: 'all' });
  t.strictSame(completion, last, 'of a completion only itself');

  // Where a later turn makes the template rewrite an earlier one, each is learnt as it was sampled.
  const thoughts = await load(t, golden.templates['thoughts']!);
  const split = await encodeSftExamples([record], thoughts, { loss: 'all' });
  t.strictSame(
    split.map(({ id }) => id),
    ['r/turn-1', 'r/turn-2'],
  );
  t.match(shown(thoughts, split)[0]?.[1], /^<think>\n\n<\/think>\n\nfour<\/s>$/);
  await t.rejects(encodeSftExamples([record], chatml, { loss: 'template' }), {
    code: 'INVALID_DATA',
    message: /^prompt r: the chat template marks nothing as generated/,
  });
});

t.test(
  'variables of the settings and of a row reach the template; one that it lacks is refused',
  async (t) => {
    const template = golden.templates['thoughts']!;
    const tokenizer = await load(t, template, { templateVariables: { enable_thinking: false } });
    const ids = await tokenizer.promptIdsAll([
      { prompt: QUESTION },
      { prompt: QUESTION, chat_template_kwargs: { enable_thinking: true } },
    ]);
    const { 'thinking off': off, 'one turn': on } = golden.cells['thoughts'] as Record<
      string,
      { prompt: number[] }
    >;
    t.strictSame(ids, [off?.prompt, on?.prompt]);
    await t.rejects(load(t, template, { templateVariables: { thinks: false } }), {
      code: 'INVALID_CONFIG',
      message: /chatTemplate\.thinks has no effect/,
    });
  },
);
