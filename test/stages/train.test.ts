import t from 'tap';
import { validateConfig } from '../../lib/config.js';
import { checkStart, collapseOf, lossAtStart, train } from '../../lib/stages/train.js';
import type { PreferencePair } from '../../lib/types.js';

const PAIR: PreferencePair = {
  id: 'a',
  prompt: 'p',
  promptIds: [1],
  chosen: '',
  chosenIds: Array(20).fill(1),
  rejected: '',
  rejectedIds: Array(30).fill(1),
  chosenReward: 1,
  rejectedReward: 0,
  consistency: 0.7,
  weight: 0.7,
  referenceChosenLogprob: -40,
  referenceRejectedLogprob: -60,
};
const options = validateConfig({ model: 'm', iterations: 0 }).train;

t.test('the loss at z = 0 is known for every loss', async (t) => {
  const at = (loss: typeof options.loss, sftCoefficient = 0) =>
    lossAtStart([PAIR], { ...options, loss, sftCoefficient }, 0.1);
  t.equal(at('sigmoid'), Math.log(2));
  t.equal(at('sigmoid-norm'), Math.log(2));
  t.equal(at('hinge'), 1);
  t.equal(at('ipo'), 1 / (2 * 0.1) ** 2);
  t.equal(at('sigmoid', 0.5), Math.log(2) + 0.5 * 2, 'plus the mean -log p per chosen token');
});

t.test('the loss at z = 0 with a length term and the agreement term is known per pair', async (t) => {
  const shifted = -10 * 0.02; // 20 and 30 tokens
  const expected =
    -0.7 * Math.log(1 / (1 + Math.exp(-shifted))) - 0.3 * Math.log(1 / (1 + Math.exp(shifted)));
  const start = lossAtStart([PAIR], { ...options, lengthTerm: 0.02 }, 0.1);
  t.ok(Math.abs(start - expected) < 1e-14);
  t.equal(
    lossAtStart([{ ...PAIR, rejectedIds: PAIR.chosenIds }], { ...options, lengthTerm: 0.02 }, 0.1),
    Math.log(2),
  );
  t.throws(
    () =>
      checkStart([PAIR], Math.log(2), {
        options: { ...options, lengthTerm: 0.1 },
        beta: 0.1,
        dtype: 'float32',
      }),
    {
      code: 'DIVERGED',
    },
  );

  const judged = { ...PAIR, baseChosenLogprob: -50, baseRejectedLogprob: -50, judgeMargin: 1 };
  const [p, q] = [1 / (1 + Math.exp(-2)), 1 / (1 + Math.exp(-1))]; // beta ((-40 + 50) - (-60 + 50)) = 2
  const kl = (a: number, b: number) => a * Math.log(a / b) + (1 - a) * Math.log((1 - a) / (1 - b));
  const both = lossAtStart([judged], { ...options, agreementCoefficient: 0.5, agreementEntropy: 0.1 }, 0.1);
  const entropy = -p * Math.log(p) - (1 - p) * Math.log(1 - p);
  t.ok(Math.abs(both - (Math.log(2) + 0.5 * (kl(p, q) + kl(q, p)) + 0.1 * entropy)) < 1e-12);
  t.throws(() => lossAtStart([PAIR], { ...options, agreementCoefficient: 0.5 }, 0.1), {
    code: 'MISSING_SCORES',
    message: /pair a has no judgeMargin/,
  });
});

t.test('a training that does not start at log 2 is stopped', async (t) => {
  const start = (loss: number, dtype: 'float32' | 'bfloat16' = 'float32') =>
    checkStart([PAIR], loss, { options, beta: 0.1, dtype });
  start(Math.log(2));
  start(Math.log(2) + 1e-5);
  t.throws(() => start(Math.log(2) + 0.001), { code: 'DIVERGED', message: /in place of 0\.693/ });
  t.throws(() => start(0.6), { code: 'DIVERGED' });
  start(Math.log(2) + 0.05, 'bfloat16'); // rounding by batch shape
  t.throws(() => start(1.2, 'bfloat16'), { code: 'DIVERGED' });
});

t.test('without a pair there is nothing to train on', async (t) => {
  const training = { options, beta: 0.1, dtype: 'float32', seed: 0, stream: 'iteration-1/train' } as const;
  await t.rejects(train([], {} as never, training), { code: 'NO_PAIRS', message: /iteration-1\/train/ });
});

t.test('bounds against collapse: the fall of the chosen log-probs, and the margin', async (t) => {
  const batch = [PAIR, { ...PAIR, referenceChosenLogprob: -20 }]; // -30 on average
  const metrics = { 'logps/chosen': -36, 'rewards/margins': 2.5 };
  t.equal(collapseOf(batch, metrics, {}), undefined, 'no bound, no stop');
  t.equal(collapseOf(batch, metrics, { maxChosenDrop: 6, maxMargin: 2.5 }), undefined, 'not past');
  t.match(
    collapseOf(batch, metrics, { maxChosenDrop: 5.9 }),
    /lost 6\.00 nats, train\.maxChosenDrop is 5\.9/,
  );
  t.match(collapseOf(batch, metrics, { maxMargin: 2 }), /rewards\/margins is 2\.500, train\.maxMargin is 2/);
});
