import fc from 'fast-check';
import t from 'tap';
import { accuracyOf, wilsonInterval } from '../../lib/accuracy.js';
import type { AnswerGenerator } from '../../lib/answer-generator.js';
import { type AnswerTokenizer, evaluate } from '../../lib/stages/evaluate.js';
import { close } from '../helpers/close.js';

// Characters are tokens, so that the stage is seen without the engine. Id 0 is the stop token.
const encode = (text: string) => Array.from(text, (character) => character.codePointAt(0) as number);
const tokenizer: AnswerTokenizer = {
  eosIds: [0],
  promptIdsAll: async (prompts) => prompts.map(({ prompt }) => encode(prompt as string)),
  decode: (ids) =>
    ids
      .filter((id) => id !== 0)
      .map((id) => String.fromCodePoint(id))
      .join(''),
};

type Request = Parameters<AnswerGenerator['generate']>[0];

/** Answers `reply(promptId, sample, isGreedy)`, last prompt first, as an engine may. */
function model(
  reply: (id: string, sample: number, isGreedy: boolean) => string,
  requests: Request[] = [],
): AnswerGenerator {
  return {
    async *generate(request) {
      requests.push(request);
      for (const [promptIndex, { id }] of [...request.prompts.entries()].reverse()) {
        for (let sample = (request.n ?? 1) - 1; sample >= 0; sample -= 1) {
          const text = reply(id, sample, request.temperature === 0);
          const isCut = text.endsWith('...');
          const ids = Int32Array.from(isCut ? encode(text) : [...encode(text), 0]);
          yield { promptIndex, sample, ids, finishReason: isCut ? 'length' : 'stop' };
        }
      }
    },
  };
}

const problems = [
  { id: 'p1', question: '1 + 1?', label: '2' },
  { id: 'p2', question: '2 + 2?', label: '4' },
  { id: 'p3', question: 'Mammal?', label: 'B', choices: { A: 'trout', B: 'bat' } },
  { id: 'p4', question: '', prompt: 'Say it', label: 'it' },
];

t.test('answers are graded by the problem that they answer, whatever order they come in', async (t) => {
  const replies: Record<string, string> = {
    p1: 'The answer is 2.',
    p2: 'The answer is 2.',
    p3: 'The answer is B.',
    p4: 'it',
  };
  const requests: Request[] = [];
  const seen: number[] = [];
  const result = await evaluate(
    problems,
    model((id) => replies[id] as string, requests),
    tokenizer,
    {
      name: 'mix',
      maxNewTokens: 50,
      seed: 7,
      onAnswer: (done, total) => seen.push(done, total),
    },
  );
  t.strictSame(
    result.records.map(({ id, greedy }) => [id, greedy.answer, greedy.correct]),
    [
      ['p1', '2', true],
      ['p2', '2', false],
      ['p3', 'B', true],
      ['p4', 'it', true],
    ],
  );
  t.match(result.greedy, { correct: 3, total: 4, accuracy: 0.75, unparsable: 0, truncated: 0 });
  t.equal(result.sampled, undefined);
  t.match(requests, [
    { n: 1, temperature: 0, maxNewTokens: 50, stopIds: [0], seed: 7, stream: 'evaluate/mix/greedy' },
  ]);
  t.equal(
    tokenizer.decode(requests[0]?.prompts[3]?.ids ?? [], { skipSpecialTokens: true }),
    'Say it',
    'a worded prompt stays',
  );
  t.match(
    tokenizer.decode(requests[0]?.prompts[2]?.ids ?? [], { skipSpecialTokens: true }),
    /A\) trout\nB\) bat/,
  );
  t.strictSame(seen, [1, 4, 2, 4, 3, 4, 4, 4]);
});

t.test('unparsable and truncated answers are counted and wrong', async (t) => {
  const replies: Record<string, string> = {
    p1: 'two',
    p2: 'The answer is 4. So...',
    p3: 'It is B or...',
    p4: 'it...',
  };
  const { greedy, records } = await evaluate(
    problems,
    model((id) => replies[id] as string),
    tokenizer,
    {
      name: 'cut',
      maxNewTokens: 50,
    },
  );
  t.match(greedy, { correct: 1, total: 4, unparsable: 3, truncated: 3 });
  t.strictSame(
    records.map(({ greedy: { answer } }) => answer),
    [null, '4', null, null],
  );
});

t.test('sampled answers are a second pass with its own accuracy', async (t) => {
  const requests: Request[] = [];
  const reply = (_: string, sample: number, isGreedy: boolean) =>
    isGreedy || sample % 2 === 1 ? 'The answer is 2.' : '...';
  const { greedy, sampled, records } = await evaluate(
    problems.slice(0, 2),
    model(reply, requests),
    tokenizer,
    {
      name: 'sums',
      maxNewTokens: 50,
      samples: 4,
      temperature: 0.8,
      topP: 0.95,
    },
  );
  t.match(greedy, { correct: 1, total: 2 });
  t.match(sampled, { correct: 2, total: 8, accuracy: 0.25, unparsable: 4, truncated: 4 });
  t.match(requests[1], { n: 4, temperature: 0.8, topP: 0.95, stream: 'evaluate/sums/samples' });
  t.strictSame(
    records[0]?.samples?.map(({ correct }) => correct),
    [false, true, false, true],
  );
});

t.test('no number is made up: no problems, no room, no answer', async (t) => {
  const good = model(() => 'The answer is 2.');
  const options = { name: 'sums', maxNewTokens: 50 };
  await t.rejects(evaluate([], good, tokenizer, options), {
    code: 'INVALID_DATA',
    message: /sums has no problems/,
  });
  await t.rejects(evaluate(problems, good, tokenizer, { ...options, limit: 0 }), { code: 'INVALID_DATA' });
  await t.rejects(evaluate(problems, good, tokenizer, { ...options, maxLength: 60 }), {
    code: 'INVALID_DATA',
    message: /problem p1: \d+ tokens leave no room for an answer within 60/,
  });
  const silent: AnswerGenerator = { async *generate() {} };
  await t.rejects(evaluate(problems, silent, tokenizer, options), { code: 'NATIVE', message: /p1/ });
  await t.rejects(evaluate(problems, good, tokenizer, { ...options, extract: 'number' }), {
    code: 'INVALID_DATA',
  });
  const limited = await evaluate(problems, good, tokenizer, { ...options, limit: 2 });
  t.equal(limited.greedy.total, 2);
});

t.test("Wilson's interval has the published values", async (t) => {
  // Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
  for (const [successes, trials, low, high] of [
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ] as const) {
    // Published with four digits.
    close(t, wilsonInterval(successes, trials), [low, high], { rtol: 0, atol: 5.1e-5 });
  }
  t.strictSame(wilsonInterval(5, 5)[1], 1);
  t.throws(() => wilsonInterval(0, 0), { code: 'INVALID_ARGUMENT' });
});

t.test('answers to one problem are not independent', async (t) => {
  const repeated = accuracyOf([
    [true, true],
    [false, false],
    [true, true],
    [false, false],
  ]);
  close(t, repeated.interval, wilsonInterval(2, 4), { rtol: 1e-12, atol: 0 });
  const spread = accuracyOf([
    [true, false],
    [false, true],
    [true, false],
    [false, true],
  ]);
  close(t, spread.interval, wilsonInterval(4, 8), { rtol: 1e-12, atol: 0 });
  const perfect = accuracyOf([
    [true, true],
    [true, true],
  ]);
  close(t, perfect.interval, wilsonInterval(2, 2), { rtol: 1e-12, atol: 0 });
  t.throws(() => accuracyOf([]), { code: 'INVALID_ARGUMENT' });
  t.throws(() => accuracyOf([[true], [true, false]]), { code: 'INVALID_ARGUMENT' });
});

t.test('an interval holds its accuracy, and more problems do not widen it', async () => {
  const flags = fc
    .integer({ min: 1, max: 5 })
    .chain((k) =>
      fc.array(fc.array(fc.boolean(), { minLength: k, maxLength: k }), { minLength: 1, maxLength: 40 }),
    );
  fc.assert(
    fc.property(flags, (flags) => {
      const { accuracy, interval, correct, total } = accuracyOf(flags);
      const [low, high] = interval;
      const inside = 0 <= low && low <= accuracy && accuracy <= high && high <= 1;
      const [wideLow, wideHigh] = wilsonInterval(accuracy * flags.length, flags.length);
      const notWider = low >= wideLow - 1e-12 && high <= wideHigh + 1e-12;
      return inside && notWider && accuracy === correct / total;
    }),
    { seed: 2, numRuns: 1000 },
  );
});

t.test('a stop string ends an answer, which then counts as ended', async (t) => {
  const replies: Record<string, string> = {
    p1: '2\n\nQuestion: 3 + 3?\nThe answer is 6...',
    p2: 'The answer is 5. Stop. The answer is 4.',
  };
  const run = (stop: readonly string[]) =>
    evaluate(
      problems.slice(0, 2),
      model((id) => replies[id] as string),
      tokenizer,
      { name: 'stop', maxNewTokens: 50, extract: 'exact', stop },
    );
  const { records, greedy } = await run(['\n\nQuestion:', 'Stop']);
  t.match(records[0]!.greedy, { text: '2', finishReason: 'stop', answer: '2', correct: true });
  t.equal(records[0]!.greedy.ids.length, replies['p1']!.length, 'the ids are what was generated');
  t.match(records[1]!.greedy, { text: 'The answer is 5. ', correct: false });
  t.equal(greedy.truncated, 0);
  t.equal((await run([])).greedy.truncated, 1);
  await t.rejects(run(['']), { code: 'INVALID_ARGUMENT', message: /stop string must not be empty/ });
});

t.test('a label that cannot be compared is an error before anything is generated', async (t) => {
  const requests: Request[] = [];
  const wrong = [{ id: 'p9', question: 'How many?', label: 'several' }];
  await t.rejects(
    evaluate(
      wrong,
      model(() => '', requests),
      tokenizer,
      { name: 'x', maxNewTokens: 5, extract: 'number' },
    ),
    { code: 'INVALID_DATA', message: /task x: p9 has the label "several", which is no number/ },
  );
  t.equal(requests.length, 0);
});
