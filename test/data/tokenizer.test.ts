import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { ChatTemplate } from '../../lib/data/chat-template.js';
import { Tokenizer } from '../../lib/data/tokenizer.js';
import type { Message } from '../../lib/types.js';
import { readGolden } from '../helpers/golden.js';
import { processorMs } from '../helpers/linear-time.js';

interface Golden {
  models: Record<
    string,
    {
      encoded: [string, number[]][];
      decoded: [number[], string, string][];
      chats: {
        name: string;
        messages: Message[];
        addGenerationPrompt: boolean;
        text: string;
        ids: number[];
      }[];
      withSpecialTokens: number[];
    }
  >;
  hostile: [string, number[]][];
}

const golden = readGolden<Golden>('tokenizer');
const modelsOf = (name: string) =>
  dirname(createRequire(import.meta.url).resolve(`@lenml/${name}/models/tokenizer.json`));
const stories = join(dirname(fileURLToPath(import.meta.url)), '../../../shared/models/stories260K');
const FOLDERS = {
  'llama-3.1': modelsOf('tokenizer-llama3_1'),
  'qwen-2.5': modelsOf('tokenizer-qwen2_5'),
  stories260K: stories,
} as const;
const storiesAbsent = existsSync(stories) ? false : `${stories} is absent`;

const loaded = new Map<string, Promise<Tokenizer>>();
function load(name: keyof typeof FOLDERS): Promise<Tokenizer> {
  const tokenizer = loaded.get(name) ?? Tokenizer.load(FOLDERS[name]);
  loaded.set(name, tokenizer);
  return tokenizer;
}

/** A model folder with the qwen-2.5 tokenizer, changed. */
async function folder(
  t: Test,
  files: Record<string, unknown>,
  source = FOLDERS['qwen-2.5'],
): Promise<string> {
  const directory = t.testdir();
  await mkdir(directory, { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    if (!(name in files)) await cp(join(source, name), join(directory, name));
  }
  for (const [name, value] of Object.entries(files)) {
    if (value !== null)
      await writeFile(join(directory, name), typeof value === 'string' ? value : JSON.stringify(value));
  }
  return directory;
}

// A word-level toy: small enough to write down, real enough to load.
const TINY = {
  version: '1.0',
  added_tokens: [
    { id: 0, content: '<s>', special: true },
    { id: 1, content: '</s>', special: true },
  ],
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: { type: 'Fuse' },
  model: {
    type: 'BPE',
    vocab: { '<s>': 0, '</s>': 1, a: 2, b: 3, '<': 4, s: 5, '>': 6, ab: 7, '/': 8, u: 9, ' ': 10, '<s': 11 },
    merges: ['a b', '< s', '<s >'],
  },
};
const TINY_CONFIG = { bos_token: '<s>', eos_token: { content: '</s>' } };
const tiny = (t: Test, files: Record<string, unknown> = {}) =>
  folder(t, { 'tokenizer.json': TINY, 'tokenizer_config.json': TINY_CONFIG, ...files });

for (const name of Object.keys(FOLDERS) as (keyof typeof FOLDERS)[]) {
  const skip = name === 'stories260K' ? storiesAbsent : false;
  const expected = golden.models[name] as Golden['models'][string];

  t.test(`${name}: ids and texts equal those of the Rust library`, { skip }, async (t) => {
    const tokenizer = await load(name);
    const wrong = expected.encoded.filter(([text, ids]) => tokenizer.encode(text).join() !== ids.join());
    t.strictSame(
      wrong.map(([text, ids]) => [text, ids, tokenizer.encode(text)]),
      [],
      `${expected.encoded.length} texts`,
    );
    t.strictSame(tokenizer.encode('Hello', { addSpecialTokens: true }), expected.withSpecialTokens);
    for (const [ids, withSpecial, withoutSpecial] of expected.decoded) {
      if (tokenizer.decode(ids) !== withSpecial) t.equal(tokenizer.decode(ids), withSpecial, ids.join());
      const text = tokenizer.decode(ids, { skipSpecialTokens: true });
      if (text !== withoutSpecial) t.equal(text, withoutSpecial, ids.join());
    }
    t.equal(tokenizer.decode([]), '');
    const [text, ids] = ['a\ud800b', 'a\udc00\ud800\ufffdb'].map((lone) => lone.toWellFormed());
    t.strictSame(
      tokenizer.encode('a\ud800b'),
      tokenizer.encode(text as string),
      'a lone surrogate is U+FFFD',
    );
    t.strictSame(tokenizer.encode('a\udc00\ud800\ufffdb'), tokenizer.encode(ids as string));
  });

  t.test(`${name}: conversations equal transformers' apply_chat_template`, { skip }, async (t) => {
    const tokenizer = await load(name);
    for (const { name, messages, addGenerationPrompt, ids } of expected.chats) {
      if (addGenerationPrompt) t.strictSame(await tokenizer.promptIds(messages), ids, name);
    }
    const user = expected.chats.find((chat) => chat.name === 'one turn' && chat.addGenerationPrompt);
    const text = user?.messages[0]?.content as string;
    t.strictSame(await tokenizer.promptIds(text, { chat: true }), user?.ids, "text as a user's turn");
    t.strictSame(await tokenizer.promptIds(text, { chat: 'auto' }), user?.ids);
    t.strictSame(
      await tokenizer.promptIds(text),
      tokenizer.encode(text, { addSpecialTokens: true }),
      'text as text',
    );
  });
}

t.test('real chat templates render as in transformers', async (t) => {
  for (const [name, { chats }] of Object.entries(golden.models)) {
    if (name === 'stories260K' && storiesAbsent) continue;
    const config = JSON.parse(
      await readFile(join(FOLDERS[name as 'llama-3.1'], 'tokenizer_config.json'), 'utf8'),
    );
    const special = { ...(config.bos_token && { bos_token: config.bos_token }), eos_token: config.eos_token };
    const chat = new ChatTemplate(config.chat_template, { variables: special });
    const renderings = await chat.render(chats);
    t.strictSame(
      renderings,
      chats.map(({ text }) => ({ text, generation: [] })),
      name,
    );
  }
});

t.test('a message cannot write special tokens', async (t) => {
  const tokenizer = await load('qwen-2.5');
  for (const [text, ids] of golden.hostile) {
    t.strictSame(await tokenizer.promptIds([{ role: 'user', content: text }]), ids, JSON.stringify(text));
    t.strictSame(await tokenizer.promptIds(text, { chat: true }), ids);
  }
  const plain = tokenizer.encode(' <|im_end|>\n<|im_start|>');
  t.notOk(plain.some((id) => tokenizer.specialIds.has(id)));
  t.equal(tokenizer.decode(plain), ' <|im_end|>\n<|im_start|>');
});

t.test('special tokens in prompts of any shape stay text', async (t) => {
  const tokenizer = await load('qwen-2.5');
  const piece = fc.constantFrom(
    '<|im_start|>',
    '<|im_end|>',
    '<|endoftext|>',
    '<|im_',
    'end|>',
    '<',
    '|>',
    ' ',
    '\n',
    'user',
    'x',
    '\ue000',
    '\ue001',
    '\uf8ff',
  );
  const content = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''));
  const [start, end] = ['<|im_start|>', '<|im_end|>'].map((token) => tokenizer.encode(token));
  t.notOk(start?.length === 1 || end?.length === 1);
  const counts = (ids: readonly number[]) => ids.filter((id) => tokenizer.specialIds.has(id)).length;
  await fc.assert(
    fc.asyncProperty(content, content, async (first, second) => {
      const ids = await tokenizer.promptIds([
        { role: 'user', content: first },
        { role: 'assistant', content: second },
        { role: 'user', content: first + second },
      ]);
      const text = tokenizer.decode(ids);
      // Four turns and the open one: 9 special tokens, however the contents look.
      return (
        counts(ids) === 9 &&
        text.includes(`<|im_start|>user\n${first}<|im_end|>\n<|im_start|>assistant\n${second}<|im_end|>`)
      );
    }),
    { seed: 3, numRuns: 150 },
  );
});

t.test('a template that joins text into special tokens is refused', async (t) => {
  const template = "{% for m in messages %}{{ '<|im_' + m.content + '|>' }}{% endfor %}";
  const tokenizer = await Tokenizer.load(await folder(t, { 'chat_template.jinja': template }));
  await t.rejects(tokenizer.promptIdsAll([{ id: 'p7', prompt: [{ role: 'user', content: 'end' }] }]), {
    code: 'INVALID_DATA',
    message: /^prompt p7: the chat template makes special tokens/,
  });
  await tokenizer.dispose();
});

t.test('BOS comes once, where the tokenizer puts it', async (t) => {
  const llama = await load('llama-3.1');
  t.equal(llama.bosId, 128000);
  t.strictSame(await llama.promptIds(''), [128000], 'an empty prompt is BOS alone');
  t.strictSame(
    (await llama.promptIds('Hello')).filter((id) => id === 128000),
    [128000],
  );
  t.strictSame(
    (await llama.promptIds([{ role: 'user', content: 'Hello' }])).filter((id) => id === 128000),
    [128000],
  );
  t.strictSame(llama.encode('Hello'), [9906]);

  const qwen = await load('qwen-2.5');
  t.equal(qwen.bosId, undefined);
  t.strictSame(await qwen.promptIds('Hello'), [9707]);
  await t.rejects(qwen.promptIds(''), {
    code: 'INVALID_DATA',
    message: /empty.*no BOS.*at least one character/,
  });

  const without = await Tokenizer.load(await tiny(t));
  t.strictSame(await without.promptIds('ab'), [7], 'a BOS token that is not added');
  t.strictSame(await without.promptIds(''), [0], 'but begins an empty prompt');
  const withBos = await Tokenizer.load(
    await tiny(t, { 'tokenizer_config.json': { ...TINY_CONFIG, add_bos_token: true } }),
  );
  t.strictSame(await withBos.promptIds('ab'), [0, 7]);
  const off = {
    ...JSON.parse(await readFile(join(FOLDERS['llama-3.1'], 'tokenizer_config.json'), 'utf8')),
    add_bos_token: false,
  };
  const llamaOff = await Tokenizer.load(
    await folder(t, { 'tokenizer_config.json': off }, FOLDERS['llama-3.1']),
  );
  t.strictSame(await llamaOff.promptIds('Hello'), [9906]);
});

t.test('stop tokens come from generation_config.json, the tokenizer and config.json', async (t) => {
  const ids = async (files: Record<string, unknown>) => (await Tokenizer.load(await tiny(t, files))).eosIds;
  t.strictSame(await ids({}), [1]);
  t.strictSame(
    await ids({ 'generation_config.json': { eos_token_id: [2, 1] }, 'config.json': { eos_token_id: 3 } }),
    [2, 1, 3],
  );
  t.strictSame(await ids({ 'generation_config.json': { eos_token_id: 7 } }), [7, 1]);
  t.strictSame(
    await ids({ 'generation_config.json': { eos_token_id: null }, 'tokenizer_config.json': {} }),
    [],
  );
  t.strictSame(
    await ids({ 'special_tokens_map.json': { eos_token: '</s>' }, 'tokenizer_config.json': {} }),
    [1],
  );
  t.strictSame((await load('qwen-2.5')).eosIds, [151645]);
  if (!storiesAbsent) t.strictSame((await load('stories260K')).eosIds, [1, 2]);
});

t.test('a response continues its prompt and ends with the stop token', async (t) => {
  const qwen = await load('qwen-2.5');
  t.strictSame(await qwen.responseIds('Hello'), [9707, 151645]);
  t.strictSame(await qwen.responseIds('Hello', { stop: false }), [9707]);
  t.strictSame(await qwen.responseIds(' Hello<|im_end|>', { stop: false }), qwen.encode(' Hello<|im_end|>'));
  t.strictSame(await qwen.responseIds('Hello', { chat: true }), [9707, 151645]);

  // The chat template's own rendering of the whole conversation is prompt + response.
  for (const name of ['llama-3.1', 'qwen-2.5'] as const) {
    const tokenizer = await load(name);
    const [user] = golden.models[name]?.chats.filter((chat) => chat.name === 'three turns') ?? [];
    const [question, answer] = (user as { messages: Message[] }).messages as [Message, Message];
    const prompt = await tokenizer.promptIds([question]);
    const response = await tokenizer.responseIds(answer.content as string, { prompt: [question] });
    t.strictSame([...prompt, ...response], user?.ids.slice(0, prompt.length + response.length), name);
    const trims = name === 'llama-3.1';
    t.equal(
      tokenizer.decode(await tokenizer.responseIds(' x ', { chat: true, stop: false })),
      trims ? 'x' : ' x ',
      'as the template trims',
    );
  }
});

t.test(
  'a SentencePiece-type tokenizer puts a space before text, not into it',
  { skip: storiesAbsent },
  async (t) => {
    const tokenizer = await load('stories260K');
    t.strictSame(
      tokenizer.encode('Once upon a time, Tim had 3 apples.', { addSpecialTokens: true }),
      [1, 403, 407, 261, 378, 432, 326, 381, 410, 472, 261, 339, 305, 419, 426],
    );
    const text = 'Once upon a time, there was a little girl named Lily.';
    t.strictSame(await tokenizer.promptIds(''), [1]);
    const atStart = await tokenizer.responseIds(text, { prompt: '', stop: false });
    t.equal(atStart.length, 15);
    t.strictSame(atStart, tokenizer.encode(text));
    t.strictSame(
      await tokenizer.responseIds(text, { prompt: [1], stop: false }),
      atStart,
      'after BOS as ids',
    );
    for (const [prompt, response] of [
      ['Once upon a', ' time'],
      ['Once up', 'on a time'],
      ['a', ''],
      ['x \n', '\n y'],
    ] as const) {
      const ids = [
        ...(await tokenizer.promptIds(prompt)),
        ...(await tokenizer.responseIds(response, { prompt, stop: false })),
      ];
      t.equal(
        tokenizer.decode(ids, { skipSpecialTokens: true }),
        prompt + response,
        JSON.stringify([prompt, response]),
      );
    }
  },
);

t.test('decode(encode(text)) is the text', async () => {
  const tokenizer = await load('llama-3.1');
  fc.assert(
    fc.property(
      fc.string({ unit: 'binary', maxLength: 60 }),
      (text) => tokenizer.decode(tokenizer.encode(text)) === text.toWellFormed(),
    ),
    { seed: 4, numRuns: 500 },
  );
});

t.test('what is wrong with a model folder is said by name', async (t) => {
  const rejects = async (files: Record<string, unknown>, message: RegExp, code = 'INVALID_CHECKPOINT') => {
    const directory = await tiny(t, files);
    await t.rejects(Tokenizer.load(directory), { code, message }, String(message));
  };
  await rejects(
    { 'tokenizer.json': null },
    /tokenizer\.json: is missing; save the tokenizer in the fast format/,
  );
  await rejects({ 'tokenizer.json': '{' }, /tokenizer\.json: is not valid JSON/);
  await rejects({ 'tokenizer.json': '[]' }, /tokenizer\.json: must hold a JSON object/);
  await rejects({ 'tokenizer.json': {} }, /tokenizer\.json: has no model/);
  await rejects(
    { 'tokenizer.json': { ...TINY, added_tokens: [{ id: -1, content: 'x' }] } },
    /added_tokens holds/,
  );
  await rejects({ 'tokenizer.json': { ...TINY, added_tokens: {} } }, /added_tokens must be a list/);
  await rejects(
    { 'tokenizer.json': { ...TINY, model: { type: 'Magic', vocab: null } } },
    /is not supported \(.*Magic/,
  );
  await rejects(
    { 'tokenizer.json': { ...TINY, model: { ...TINY.model, vocab: { a: 1e12 } } } },
    /token "a" has the id 1000000000000/,
  );
  await rejects(
    { 'config.json': { vocab_size: 11 } },
    /token "<s" with id 11, but the model's vocab_size \(config\.json\) is 11/,
  );
  await rejects(
    { 'config.json': { vocab_size: 12, eos_token_id: 12 } },
    /eos_token_id 12 is outside the vocabulary of 12/,
  );
  await rejects(
    { 'config.json': { eos_token_id: 'x' } },
    /config\.json: eos_token_id must be a token id or a list, got "x"/,
  );
  await rejects(
    { 'tokenizer_config.json': { bos_token: '<bos>' } },
    /bos_token "<bos>" is not in tokenizer\.json/,
  );
  await rejects(
    { 'tokenizer_config.json': { bos_token: 7 } },
    /bos_token must be text or \{content\}, got 7/,
  );
  await rejects(
    { 'tokenizer_config.json': { chat_template: 7 } },
    /chat_template must be text or a list, got 7/,
  );
  const named = [{ name: 'tool_use', template: 'x' }];
  await rejects(
    { 'tokenizer_config.json': { chat_template: named } },
    /no entry named "default" \(only \["tool_use"\]\)/,
  );
  await t.rejects(Tokenizer.load(join(t.testdirName, 'absent')), { code: 'INVALID_CHECKPOINT' });
});

t.test('templates come from chat_template.jinja, the config or its entry "default"', async (t) => {
  const text = (files: Record<string, unknown>) =>
    tiny(t, files)
      .then((directory) => Tokenizer.load(directory))
      .then((tokenizer) => tokenizer.promptIds([{ role: 'user', content: 'ab' }]));
  const config = { ...TINY_CONFIG, chat_template: '{{ bos_token }}a' };
  t.strictSame(await text({ 'tokenizer_config.json': config }), [0, 2]);
  t.strictSame(await text({ 'tokenizer_config.json': config, 'chat_template.jinja': 'b' }), [3]);
  const list = [
    { name: 'tool_use', template: 'b' },
    { name: 'default', template: '{{ messages[0].content }}' },
  ];
  t.strictSame(await text({ 'tokenizer_config.json': { ...TINY_CONFIG, chat_template: list } }), [7]);
  await t.rejects(text({}), {
    code: 'INVALID_CHECKPOINT',
    message: /has no chat template; give prompts as text/,
  });
  await t.rejects(text({ 'chat_template.jinja': '{% if false %}x{% endif %}' }), {
    code: 'INVALID_DATA',
    message: /into nothing/,
  });
});

t.test('a token that the configuration names is special, whatever tokenizer.json says', async (t) => {
  const added_tokens = TINY.added_tokens.map((token) => ({ ...token, special: token.content === '<s>' }));
  const tokenizer = await Tokenizer.load(await tiny(t, { 'tokenizer.json': { ...TINY, added_tokens } }));
  t.strictSame([tokenizer.specialIds.has(1), tokenizer.encode('a</s>').includes(1)], [true, false]);
  t.equal(tokenizer.decode([2, 1], { skipSpecialTokens: true }), 'a');
});

t.test('text cannot reach a special token through merges or an ignored merge table', async (t) => {
  const tokenizer = await Tokenizer.load(await tiny(t));
  t.strictSame(
    tokenizer.encode('a<s>b'),
    [2, 11, 6, 3].filter((id) => tokenizer.decode([id]) !== ''),
    'the merge to <s> is not taken',
  );
  t.notOk(tokenizer.encode('<s></s>').some((id) => tokenizer.specialIds.has(id)));
});

t.test('ids outside the vocabulary are refused by name', async (t) => {
  const tokenizer = await Tokenizer.load(await tiny(t, { 'config.json': { vocab_size: 16 } }));
  t.equal(tokenizer.vocabSize, 12);
  tokenizer.checkIds([0, 15], 'prompt p1');
  for (const id of [16, -1, 1.5, Number.NaN]) {
    t.throws(() => tokenizer.checkIds([0, id], 'prompt p1'), {
      code: 'INVALID_DATA',
      message: `prompt p1: ${id} is not a token id; the vocabulary has 16`,
    });
  }
  t.equal(tokenizer.decode([2, 15, 3]), 'ab', 'padding of the vocabulary has no text');
});

t.test('messages are checked', async (t) => {
  const tokenizer = await load('qwen-2.5');
  const rejects = (messages: unknown, message: RegExp) =>
    t.rejects(tokenizer.promptIds(messages as Message[]), { code: 'INVALID_DATA', message });
  await rejects([], /must be a list of \{role, content\}/);
  await rejects([{ role: 'user' }], /message 1 must have text as content, got undefined/);
  await rejects(
    [
      { role: 'user', content: 'x' },
      { role: 'im_end', content: 'x' },
    ],
    /message 2 has the role "im_end"; known are system/,
  );
  await rejects(
    [JSON.parse('{"__proto__": {"role": "user", "content": "x"}}')],
    /message 1 has the role undefined/,
  );
});

t.test('long and many texts do not hold up the event loop', async (t) => {
  const tokenizer = await load('qwen-2.5');
  for (const piece of ['A', ' ', 'a b ', '\n', '1', '\u4f60', '\u0301', '=']) {
    const ms = processorMs(() => tokenizer.encode(piece.repeat(50_000)));
    t.ok(ms < 20_000, `${JSON.stringify(piece)}: ${ms} ms; quadratic time would be minutes`);
  }
  t.throws(() => tokenizer.encode('x'.repeat(2_000_000)), {
    code: 'INVALID_DATA',
    message: /2000000 characters/,
  });

  let turns = 0;
  const timer = setInterval(() => (turns += 1), 1);
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  const texts = Array.from({ length: 3000 }, (_, i) => `Problem ${i}: ${'some words here '.repeat(30)}`);
  const encoded = await tokenizer.encodeAll(texts);
  delay.disable();
  clearInterval(timer);
  t.equal(encoded.length, texts.length);
  t.strictSame(encoded[17], tokenizer.encode(texts[17] as string));
  t.ok(turns > 5, `${turns} turns of the event loop, longest wait ${(delay.max / 1e6).toFixed(0)} ms`);
  const stopped = AbortSignal.abort();
  await t.rejects(tokenizer.encodeAll(texts, { signal: stopped }), { code: 'ABORTED' });
  await t.rejects(tokenizer.promptIdsAll([{ prompt: 'x' }], { signal: stopped }), { code: 'ABORTED' });
});
