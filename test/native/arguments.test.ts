import t from 'tap';
import { toArray, toInt32Array, toObjects, toScoreGroups, toSeed } from '../../lib/native/arguments.js';
import { TIED } from '../helpers/tiny-model.js';
import { Model } from '../../lib/native/model.js';

// What JavaScript may pass where TypeScript would refuse it.

const anything = (value: unknown) => value as never;
const invalid = (message: RegExp) => ({ code: 'INVALID_ARGUMENT', message });

t.test('lists, ids and seeds of another type are named', async (t) => {
  t.strictSame(toInt32Array([3, 4], 'ids'), Int32Array.of(3, 4));
  const own = Int32Array.of(1);
  t.equal(toInt32Array(own, 'ids'), own, 'not copied');
  for (const [value, shown] of [
    [5, '5'],
    ['12', '12'],
    [undefined, 'undefined'],
    [null, 'null'],
    [{ length: 1 }, 'an object'],
    [() => 1, 'a function'],
    [new Float64Array(1), 'an object'],
    [Symbol('s'), 'Symbol\\(s\\)'],
  ] as const) {
    const message = new RegExp(`^x must be an array, got ${shown}$`);
    t.throws(() => toInt32Array(anything(value), 'x'), invalid(message));
    t.throws(() => toArray(anything(value), 'x'), invalid(message));
  }
  for (const id of [1.5, Number.NaN, 2 ** 31, '1', null, undefined, [1]]) {
    t.throws(() => toInt32Array(anything([0, id]), 'x'), invalid(/^x\[1\] is .*, expected a token id$/));
  }
  t.throws(() => toObjects(anything([{}, 7]), 'x'), invalid(/^x\[1\] must be an object, got 7$/));
  t.throws(() => toSeed(anything(Symbol('s')), 'f'), invalid(/f: seed must be .*, got Symbol\(s\)/));
  t.throws(
    () => toScoreGroups([{ promptIds: [1], responses: anything([4]) }], 'score'),
    invalid(/^score: groups\[0\]\.responses\[0\] must be an array, got 4$/),
  );
});

t.test('the verbs of a model refuse them', async (t) => {
  await using model = await Model.random({ ...TIED, slidingWindow: [0, 0] }, { seed: 1n });
  const generate = async (request: unknown) => {
    for await (const _ of model.generate(anything(request))) t.fail('nothing is generated');
  };
  const asked = { n: 1, maxNewTokens: 2 };
  const prompt = { id: 'a', ids: [1] };
  await t.rejects(generate({ ...asked, prompts: 'abc' }), invalid(/generate: prompts must be an array/));
  await t.rejects(
    generate({ ...asked, prompts: [prompt], stopIds: 2 }),
    invalid(/stopIds must be an array, got 2/),
  );
  await t.rejects(
    generate({ ...asked, prompts: [{ ids: [1] }] }),
    invalid(/prompts\[0\]\.id must be a string/),
  );
  await t.rejects(model.score(anything([null])), invalid(/score: groups\[0\] must be an object, got null/));
  await t.rejects(
    model.snapshot(anything({ on: 'disk' })),
    invalid(/on must be 'device' or 'host', got disk/),
  );
});
