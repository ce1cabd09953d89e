import fc from 'fast-check';
import t from 'tap';
import { checkJudgeTemplate, judgePrompt, readScore } from '../../lib/data/judge-prompt.js';
import { judge, type JudgeModel, type JudgeTokenizer } from '../../lib/stages/judge.js';
import type { Group } from '../../lib/types.js';
import { processorMs } from '../helpers/linear-time.js';

t.test('a score is read from the last line alone, and only in its own form', async (t) => {
  for (const [text, points] of [
    ['Useful.\nScore: 4', 4],
    ['Score: 0', 0],
    ['Useful.\r\n**Score: 5/5**\n\n', 5],
    ['score:3.', 3],
    ['Score: 5\nNo, it is worse.\nScore: 1', 1],
    ['Score: 5\nas said above', null],
    ['Score: 6', null],
    ['Score: -1', null],
    ['Score: 4.5', null],
    ['Score: 4/10', null],
    ['Score: 45', null],
    ['Score: five', null],
    ['Score: \u0664', null],
    ['Score:', null],
    ['The score: 4', null],
    ['4', null],
    ['', null],
  ] as const) {
    t.equal(readScore(text), points, JSON.stringify(text));
  }
});

t.test('any text is read without failing; what is read is a whole number from 0 to 5', async () => {
  const pieces = fc.constantFrom(
    'Score:',
    'score: ',
    '/5',
    '.',
    '*',
    '\n',
    '\r',
    ' ',
    '7',
    '3',
    '\ud800',
    '\u2028',
  );
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.array(pieces, { maxLength: 40 }).map((list) => list.join('')),
  );
  fc.assert(
    fc.property(text, (value) => {
      const points = readScore(value);
      return points === null || [0, 1, 2, 3, 4, 5].includes(points);
    }),
    { seed: 5, numRuns: 2000 },
  );
  fc.assert(
    fc.property(
      text,
      fc.integer({ min: 0, max: 5 }),
      (before, n) => readScore(`${before}\nScore: ${n}`) === n,
    ),
    { seed: 6, numRuns: 500 },
  );
});

t.test('a megabyte of hostile text costs linear time', async (t) => {
  for (const unit of [' ', '\n', '*', 'Score: ', 'Score: 5\n', 'Score: 5 ', '/5', '.']) {
    const text = unit.repeat(Math.ceil(1_000_000 / unit.length));
    const ms = processorMs(() => {
      readScore(text);
      readScore(`${text}x`);
    });
    // Linear time is some 10 ms, quadratic time would be minutes.
    t.ok(ms < 5000, `${JSON.stringify(unit)}: ${ms.toFixed(1)} ms`);
  }
});

t.test('the prompt holds request, conversation and reply', async (t) => {
  t.match(judgePrompt('2 + 2?', 'four'), /<request>\n2 \+ 2\?\n<\/request>\n\n<reply>\nfour\n<\/reply>/);
  t.match(judgePrompt([{ role: 'user', content: 'Hi' }], ''), /\[user\]\nHi\n<\/request>/);
});

// Characters are tokens. Id 0 is the stop token.
const encode = (text: string) => Array.from(text, (character) => character.codePointAt(0)!);
const tokenizer: JudgeTokenizer = {
  eosIds: [0],
  promptIdsAll: async (prompts) => prompts.map(({ prompt }) => encode(prompt as string)),
  decode: (ids) => String.fromCodePoint(...ids.filter((id) => id !== 0)),
};
const options = {
  judgements: 3,
  maxNewTokens: 20,
  temperature: 1,
  topP: 1,
  maxLength: 10_000,
  seed: 1,
  stream: 'iteration-1/judge',
};

/** Says `replies[sample]` about the response with that text, last first, as an engine may; "..." is cut. */
function model(replies: Record<string, string[]>, asked: string[] = []): JudgeModel {
  return {
    async *generate({ prompts, n }) {
      for (const [promptIndex, { ids }] of [...prompts.entries()].reverse()) {
        const text = /<reply>\n(.*)\n<\/reply>/s.exec(String.fromCodePoint(...ids))![1]!;
        asked.push(text);
        for (let sample = n! - 1; sample >= 0; sample -= 1) {
          const said = replies[text]![sample]!;
          const isCut = said.endsWith('...');
          const spoken = encode(isCut ? said.slice(0, -3) : said);
          yield {
            promptIndex,
            sample,
            ids: Int32Array.from(isCut ? spoken : [...spoken, 0]),
            finishReason: isCut ? 'length' : 'stop',
          };
        }
      }
    },
  };
}

const group = (id: string, texts: string[]): Group => ({
  id,
  prompt: 'Say it',
  promptIds: [1],
  responses: texts.map((text) => ({ ids: encode(text), text, finishReason: 'stop' })),
});

t.test(
  'a reward is the mean of the judgements that could be read; equal responses are judged once',
  async (t) => {
    const asked: string[] = [];
    const judgeModel = model(
      {
        good: ['Score: 5', 'Score: 4', 'Score: 3'],
        mixed: ['Score: 2', 'no idea', 'Score: 4...'],
        silent: ['', '?', 'Score: 9'],
      },
      asked,
    );
    const groups = [group('a', ['good', 'mixed', 'good']), group('b', ['silent'])];
    const [a, b] = await judge(groups, judgeModel, tokenizer, options);
    t.strictSame(a, {
      id: 'a',
      rewards: [4, 2, 4],
      judgements: [
        [5, 4, 3],
        [2, null, null],
        [5, 4, 3],
      ],
      asked: 6,
      unparsable: 2,
      tooLong: 0,
    });
    t.ok(Number.isNaN(b!.rewards[0]), 'nothing to average');
    t.equal(b!.unparsable, 3);
    t.strictSame(asked.sort(), ['good', 'mixed', 'silent']);
  },
);

t.test('with minReadable, a response needs so many readable judgements', async (t) => {
  const judgeModel = model({ two: ['Score: 2', '?', 'Score: 4'], one: ['Score: 2', '?', ''] });
  const groups = [group('a', ['two', 'one'])];
  const [judged] = await judge(groups, judgeModel, tokenizer, { ...options, minReadable: 2 });
  t.strictSame(judged!.rewards, [3, Number.NaN]);
});

t.test("a template of one's own gets prompt and response as they are, whatever they hold", async (t) => {
  const template = 'Q: {{prompt}}\nA: {{response}}\nAgain: {{response}}. End with "Score: N".';
  t.equal(checkJudgeTemplate(template, 'judge.txt'), template);
  t.equal(
    judgePrompt('why {{response}}', '{{prompt}} $& $1', template),
    'Q: why {{response}}\nA: {{prompt}} $& $1\nAgain: {{prompt}} $& $1. End with "Score: N".',
  );
  for (const [broken, blank] of [
    ['A: {{response}}', /judge\.txt: has no \{\{prompt\}\}/],
    ['Q: {{prompt}} {{ response }}', /has no \{\{response\}\}/],
  ] as const) {
    t.throws(() => checkJudgeTemplate(broken, 'judge.txt'), { code: 'INVALID_DATA', message: blank });
  }
});

t.test('a response without room for a judgement has no reward and is counted', async (t) => {
  const [judged] = await judge(
    [group('a', ['good', 'x'.repeat(10_000)])],
    model({ good: ['Score: 1', 'Score: 1', 'Score: 2'] }),
    tokenizer,
    options,
  );
  t.equal(judged!.rewards[0], 4 / 3);
  t.ok(Number.isNaN(judged!.rewards[1]));
  t.equal(judged!.tooLong, 1);
});

t.test('a judgement that the engine did not give is an error', async (t) => {
  const silent: JudgeModel = { async *generate() {} };
  await t.rejects(judge([group('a', ['good'])], silent, tokenizer, options), {
    code: 'NATIVE',
    message: 'response a/0 got fewer than 3 judgements',
  });
});
