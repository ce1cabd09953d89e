import { createRequire } from 'node:module';
import t from 'tap';
import { addonPath } from '../../lib/native/binding.js';
import { close } from '../helpers/close.js';

type Kind = 'sigmoid' | 'hinge' | 'ipo' | 'sigmoid-norm';
interface Pair {
  chosen: number;
  rejected: number;
  referenceChosen: number;
  referenceRejected: number;
  chosenTokens: number;
  rejectedTokens: number;
  consistency: number;
  loss: Kind;
  beta: number;
  sftCoefficient: number;
  lengthTerm?: number;
  agreementCoefficient?: number;
  agreementEntropy?: number;
  implicitMargin?: number;
  judgeMargin?: number;
}
interface Loss {
  loss: number;
  dChosen: number;
  dRejected: number;
  chosenReward: number;
  rejectedReward: number;
}
const ops = createRequire(import.meta.url)(addonPath()) as { _preferenceLoss(pair: Pair): Loss };
const preferenceLoss = (pair: Pair) => ops._preferenceLoss(pair);

const KINDS: Kind[] = ['sigmoid', 'hinge', 'ipo', 'sigmoid-norm'];
const CONSISTENCIES = [0, 0.3, 0.5, 1];
const PAIR: Pair = {
  chosen: -20,
  rejected: -31,
  referenceChosen: -22,
  referenceRejected: -30,
  chosenTokens: 8,
  rejectedTokens: 5,
  consistency: 0.7,
  loss: 'sigmoid',
  beta: 0.1,
  sftCoefficient: 0,
};
/** A pair whose margin z is as given. */
const withMargin = (z: number, rest: Partial<Pair>): Pair => ({
  ...PAIR,
  chosen: -20 + z / 2,
  referenceChosen: -20,
  rejected: -30 - z / 2,
  referenceRejected: -30,
  ...rest,
});

t.test('at zero margin the loss is exactly log 2 for every C', async (t) => {
  for (const loss of ['sigmoid', 'sigmoid-norm'] as const) {
    for (const consistency of CONSISTENCIES) {
      t.equal(
        preferenceLoss(withMargin(0, { loss, consistency })).loss,
        Math.log(2),
        `${loss}, C = ${consistency}`,
      );
    }
  }
});

t.test('the derivative by u is sigma(u) - C, so it vanishes at u = logit(C)', async (t) => {
  for (const consistency of [0.3, 0.5, 0.9]) {
    const u = Math.log(consistency / (1 - consistency));
    const { dChosen, dRejected } = preferenceLoss(withMargin(u / 0.1, { consistency }));
    close(t, [dChosen, dRejected], [0, 0], { atol: 1e-15 }, `C = ${consistency}`);
  }
  const { dChosen, dRejected } = preferenceLoss(withMargin(5, { consistency: 0.7 }));
  close(t, [dChosen, -dRejected], Array(2).fill(0.1 * (1 / (1 + Math.exp(-0.5)) - 0.7)), { rtol: 1e-12 });
});

t.test('C = 1 is DPO, and C = 0 is DPO of the swapped pair', async (t) => {
  const { loss } = preferenceLoss({ ...PAIR, consistency: 1 });
  close(t, [loss], [Math.log1p(Math.exp(-0.1 * (2 - -1)))], { rtol: 1e-14 });
  const swapped = {
    ...PAIR,
    chosen: PAIR.rejected,
    rejected: PAIR.chosen,
    referenceChosen: PAIR.referenceRejected,
    referenceRejected: PAIR.referenceChosen,
  };
  close(
    t,
    [preferenceLoss({ ...PAIR, consistency: 0 }).loss],
    [preferenceLoss({ ...swapped, consistency: 1 }).loss],
    {
      rtol: 1e-14,
    },
  );
});

t.test('hinge, ipo and sigmoid-norm have their published values', async (t) => {
  const c = 0.7;
  const u = 0.1 * 3; // z = 2 - (-1)
  const averaged = 2 / 8 - -1 / 5;
  const at = (loss: Kind) => preferenceLoss({ ...PAIR, loss }).loss;
  close(t, [at('hinge')], [c * (1 - u) + (1 - c) * (1 + u)], { rtol: 1e-14 });
  close(t, [at('ipo')], [c * (averaged - 5) ** 2 + (1 - c) * (averaged + 5) ** 2], { rtol: 1e-14 });
  const v = 0.1 * averaged;
  close(t, [at('sigmoid-norm')], [Math.log1p(Math.exp(-v)) + (1 - c) * v], { rtol: 1e-14 });
});

t.test('rewards are beta times the log-prob ratios', async (t) => {
  for (const loss of KINDS) {
    const { chosenReward, rejectedReward } = preferenceLoss({ ...PAIR, loss });
    close(t, [chosenReward, rejectedReward], [0.2, -0.1], { rtol: 1e-12 }, loss);
  }
});

t.test('the derivatives are the finite differences, for every loss, C and sftCoefficient', async (t) => {
  const h = 1e-4;
  for (const loss of KINDS) {
    for (const consistency of CONSISTENCIES) {
      for (const sftCoefficient of [0, 0.25]) {
        const pair = { ...PAIR, loss, consistency, sftCoefficient };
        const slope = (key: 'chosen' | 'rejected') =>
          (preferenceLoss({ ...pair, [key]: pair[key] + h }).loss -
            preferenceLoss({ ...pair, [key]: pair[key] - h }).loss) /
          (2 * h);
        const { dChosen, dRejected } = preferenceLoss(pair);
        close(t, [dChosen, dRejected], [slope('chosen'), slope('rejected')], { rtol: 1e-8, atol: 1e-10 });
      }
    }
  }
});

t.test('sftCoefficient adds the mean -log p of the chosen tokens', async (t) => {
  const plain = preferenceLoss(PAIR);
  const mixed = preferenceLoss({ ...PAIR, sftCoefficient: 0.25 });
  close(t, [mixed.loss - plain.loss, mixed.dChosen - plain.dChosen], [0.25 * (20 / 8), -0.25 / 8], {
    rtol: 1e-12,
  });
  t.equal(mixed.dRejected, plain.dRejected);
});

t.test('huge margins neither overflow nor cancel', async (t) => {
  for (const consistency of CONSISTENCIES) {
    for (const sign of [1, -1]) {
      const { loss, dChosen } = preferenceLoss(withMargin(sign * 1e6, { consistency }));
      const weight = sign > 0 ? 1 - consistency : consistency;
      close(t, [loss, dChosen], [weight * 1e5, sign * weight * 0.1], { rtol: 1e-14, atol: 1e-300 });
    }
  }
  // DPO at u = 50: e^-50, which 50 + softplus(-50) - 50 would lose.
  close(t, [preferenceLoss(withMargin(500, { consistency: 1 })).loss], [Math.exp(-50)], { rtol: 1e-10 });
});

t.test('the hinge is flat beyond its margin', async (t) => {
  const { loss, dChosen } = preferenceLoss(withMargin(20, { loss: 'hinge', consistency: 1 }));
  t.same([loss, Math.abs(dChosen)], [0, 0]);
});

t.test('the length term is R-DPO: alpha per token that the chosen response is longer', async (t) => {
  // TRL style, C = 1: -log sigmoid(beta (ratio_w - ratio_l) + alpha (|y_w| - |y_l|))
  for (const lengthTerm of [0.01, 0.3]) {
    const shifted = 0.1 * (2 - -1) + lengthTerm * (8 - 5);
    const { loss, dChosen, dRejected } = preferenceLoss({ ...PAIR, consistency: 1, lengthTerm });
    close(t, [loss], [-Math.log(1 / (1 + Math.exp(-shifted)))], { rtol: 1e-13 });
    const slope = -0.1 / (1 + Math.exp(shifted));
    close(t, [dChosen, dRejected], [slope, -slope], { rtol: 1e-12 });
    t.strictSame(
      preferenceLoss({ ...PAIR, loss: 'hinge', lengthTerm }),
      preferenceLoss({ ...PAIR, loss: 'hinge' }),
      'members of other families have no length term',
    );
  }
  const { dChosen } = preferenceLoss(withMargin(0, { consistency: 1, lengthTerm: 0.1 }));
  t.ok(-dChosen < 0.05, 'a longer chosen response is pushed less than by DPO, 0.1 / 2');
});

t.test('with all terms the derivatives are the finite differences', async (t) => {
  const h = 1e-4;
  for (const loss of KINDS) {
    for (const judgeMargin of [-1.5, 0, 4]) {
      const pair: Pair = {
        ...PAIR,
        loss,
        lengthTerm: 0.07,
        agreementCoefficient: 0.4,
        agreementEntropy: 0.2,
        implicitMargin: 0.9,
        judgeMargin,
      };
      const slope = (key: 'chosen' | 'rejected') =>
        (preferenceLoss({ ...pair, [key]: pair[key] + h }).loss -
          preferenceLoss({ ...pair, [key]: pair[key] - h }).loss) /
        (2 * h);
      const { dChosen, dRejected } = preferenceLoss(pair);
      close(t, [dChosen, dRejected], [slope('chosen'), slope('rejected')], { rtol: 1e-7, atol: 1e-9 });
    }
  }
});

t.test('the agreement term is the symmetric KL divergence plus entropy, by their definitions', async (t) => {
  const [p, q] = [0.8, 0.3];
  const logit = (x: number) => Math.log(x / (1 - x));
  const kl = (a: number, b: number) => a * Math.log(a / b) + (1 - a) * Math.log((1 - a) / (1 - b));
  const pair = { ...PAIR, implicitMargin: logit(p) - 0.1 * 3, judgeMargin: logit(q) };
  const plain = preferenceLoss(pair).loss;
  const divergence = preferenceLoss({ ...pair, agreementCoefficient: 1 }).loss - plain;
  close(t, [divergence], [kl(p, q) + kl(q, p)], { rtol: 1e-12 });
  const entropy = preferenceLoss({ ...pair, agreementEntropy: 1 }).loss - plain;
  close(t, [entropy], [-p * Math.log(p) - (1 - p) * Math.log(1 - p)], { rtol: 1e-12 });
  const agreeing = preferenceLoss({ ...pair, judgeMargin: logit(p), agreementCoefficient: 5 });
  close(t, [agreeing.loss], [plain], { rtol: 1e-12 }, 'nothing where both agree');
});
