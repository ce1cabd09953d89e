import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { Tokenizer } from '../../lib/data/tokenizer.js';
import { modelRewards } from '../../lib/stages/reward-model.js';
import { cream } from '../helpers/cream.js';
import { checkpoint, readGolden } from '../helpers/golden.js';

const { templates, cells } = readGolden<{
  templates: Record<string, string>;
  cells: Record<string, Record<string, { prompt: number[]; whole: number[] }>>;
}>('turns');
const cwd = t.testdir();
const QUESTION = [{ role: 'user', content: 'two and two' }];

async function modelWith(name: string, template: string, weights = 'options') {
  const folder = join(cwd, name);
  await cp(checkpoint(weights), folder, { recursive: true });
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    await cp(join(checkpoint('options'), file), join(folder, file));
  }
  await writeFile(join(folder, 'chat_template.jinja'), template);
  return folder;
}

const write = (name: string, ...rows: object[]) =>
  writeFile(join(cwd, name), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));

t.test('a reward model reads everything that the template writes, or to the end of the turn', async (t) => {
  const tokenizer = await Tokenizer.load(await modelWith('reward', templates['chatml']!));
  t.teardown(() => tokenizer.dispose());
  const { prompt, whole } = cells['chatml']!['one turn']!;
  const read: number[][] = [];
  const scorer = {
    config: { maxPositionEmbeddings: 256 },
    rewards: async (groups: { promptIds: readonly number[]; responses: (readonly number[])[] }[]) =>
      groups.map(({ promptIds, responses }) => responses.map((ids) => read.push([...promptIds, ...ids]))),
  };
  const end = whole.lastIndexOf(2) + 1;
  const group = (ids: number[], finishReason: 'stop' | 'length') => ({
    id: 'r',
    prompt: QUESTION,
    promptIds: prompt,
    responses: [{ ids, text: 'four', finishReason }],
  });
  const sampled = whole.slice(prompt.length, end);
  for (const [asked, options, expected] of [
    [group([], 'stop'), { keepsIds: false, readAt: 'conversation-end' }, whole],
    [group([], 'stop'), { keepsIds: false, readAt: 'turn-end' }, whole.slice(0, end)],
    [group([], 'length'), { keepsIds: false, readAt: 'conversation-end' }, whole.slice(0, end - 1)],
    [group(sampled, 'stop'), { keepsIds: true, readAt: 'conversation-end' }, whole],
    [
      group([7, ...sampled], 'stop'),
      { keepsIds: true, readAt: 'conversation-end' },
      [...prompt, 7, ...whole.slice(prompt.length)],
    ],
    [group(sampled, 'stop'), { keepsIds: true, readAt: 'turn-end' }, whole.slice(0, end)],
    [group([7], 'length'), { keepsIds: true, readAt: 'conversation-end' }, [...prompt, 7]],
  ] as const) {
    read.length = 0;
    await modelRewards([asked], scorer, { tokenizer, chat: false, maxTokensPerBatch: 64, ...options });
    t.strictSame(read, [expected], JSON.stringify(options));
  }
});

t.test('inspect data --show marks what is learnt, in 80 columns, control characters escaped', async (t) => {
  await modelWith('marked', templates['marked']!);
  const turns = [
    { role: 'user', content: `two \u001b[31m${'and two '.repeat(12)}` },
    { role: 'assistant', content: 'four' },
    { role: 'user', content: 'so' },
    { role: 'assistant', content: '\u56db'.repeat(50) },
  ];
  await write('turns.jsonl', { id: 'c', messages: turns });
  const show = (...more: string[]) =>
    cream(['inspect', 'data', 'turns.jsonl', '--show', '1', '-m', 'marked', ...more], { cwd });
  const all = await show();
  t.equal(all.code, 0, all.stderr);
  const lines = all.stdout.split('\n');
  t.match(lines[0], /^c, response: \d+ tokens, \d+ trained$/);
  t.match(lines[1], /^ {2}\| <s>U: two \\u\{1b\}\[31mand two/);
  t.ok(lines.includes('> | four</s>'), all.stdout);
  t.ok(lines.includes('  | \\nU: so\\nA: '), all.stdout);
  t.ok(
    lines.every((line) => line.replaceAll('\u56db', 'xx').length <= 80),
    'at most 80 columns',
  );
  const marked = await show('--loss', 'template');
  t.equal(marked.stdout, all.stdout, 'the marks of this template are around all turns');
  const last = await show('--loss', 'last', '--json');
  const [row] = (
    JSON.parse(last.stdout) as { rows: { trained: number[]; parts: { isTrained: boolean }[] }[] }
  ).rows;
  t.strictSame(
    row?.parts.map(({ isTrained }) => isTrained),
    [false, true],
  );
  for (const [args, message] of [
    [['inspect', 'data', 'turns.jsonl', '--show', '1'], /--show and --model belong together/],
    [['inspect', 'model', 'marked', '--show', '1', '-m', 'marked'], /--show has no effect on inspect model/],
  ] as const) {
    const refused = await cream([...args], { cwd });
    t.equal(refused.code, 2);
    t.match(refused.stderr, message);
  }
});

t.test(
  'texts that hold special tokens are told once per file; a prompt that the template parts can be refused',
  async (t) => {
    await modelWith('open', templates['open thought']!);
    const texts = ['<s>a', 'b</s>', 'c'].map((prompt, i) => ({ id: `p${i}`, prompt }));
    await write('texts.jsonl', ...texts);
    const sampled = await cream(
      ['sample', '-m', 'open', '-i', 'texts.jsonl', '-n', '1', '--max-new-tokens', '1', '--threads', '1'],
      { cwd },
    );
    t.equal(sampled.code, 0, sampled.stderr);
    t.equal(sampled.stderr.match(/warning:/g)?.length, 1, sampled.stderr);
    t.match(
      sampled.stderr,
      /texts\.jsonl: 2 texts contain special tokens of the model \("<s>"\), the first in p0/,
    );

    await write('rows.jsonl', { id: 'r', prompt: QUESTION, responses: ['four'], tools: [] });
    const line = ['score', '-m', 'open', '-i', 'rows.jsonl', '--threads', '1', '-q'];
    const parted = await cream(line, { cwd });
    t.match(parted.stderr, /warning: rows\.jsonl: the chat template does not continue the prompt/);
    t.strictSame(
      (JSON.parse(parted.stdout) as { tools: unknown }).tools,
      [],
      'the row keeps what it gives the template',
    );
    const refused = await cream([...line, '--prefix-mismatch', 'error'], { cwd });
    t.equal(refused.code, 4);
    t.match(refused.stderr, /prompt r: the chat template does not continue the prompt/);
  },
);
