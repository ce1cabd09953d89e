import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { histogram, lengthEdges, tauEdges } from '../../lib/report/histogram.js';
import { escapeHtml, joinModules, renderPage, scriptJson } from '../../lib/report/html.js';
import { compareScores, outcomeOf } from '../../lib/report/outcome.js';
import { readRun } from '../../lib/report/read-run.js';
import { readReport } from '../../lib/report/report.js';
import { gradientSpikes } from '../../lib/report/training-lights.js';
import type { ReportRun } from '../../lib/report/types.js';
import { comparisonOf } from '../../lib/report/verdict.js';
import { rewardCorrelation } from '../../lib/run/summary.js';
import { group, type MadeRun, makeRun, step } from '../helpers/report-run.js';

// What a report says of run folders whose numbers are known. How it looks is in page.test.ts.

const root = t.testdir({});
let made = 0;
const read = (run: Omit<MadeRun, 'folder'>): Promise<ReportRun> => {
  made += 1;
  return readRun(makeRun({ folder: join(root, `run-${made}`), ...run }), { shown: 100 });
};
const light = ({ lights }: ReportRun, id: string) => {
  const found = lights.find((one) => one.id === id);
  if (found === undefined) throw new Error(`no light ${id}`);
  return found;
};
const train = (t: number, rows: Record<string, number | null>[]) =>
  rows.map((metrics, i) => step(`iteration-${t}/train`, i + 1, metrics));

t.test('a finished run: table, distributions, pairs and both rankings', async (t) => {
  const run = await read({
    iterations: [
      [group('a'), group('b', { tau: -1 }), group('c', { tau: null, rewards: [1, 1, 1, 1] })],
      [group('d', { texts: ['same', 'same', 'same', 'x'], rewards: [2, 2, 2, 1] })],
    ],
    accuracies: [0.3, 0.4, 0.5, 0.6],
    steps: [
      step('sft', 1),
      ...train(1, [{ loss: 0.69 }, { loss: 0.5 }]),
      ...train(2, [{ loss: 0.69 }, { loss: null }]),
    ],
    origins: { iterations: 'run.yaml:3', 'sampling.n': 'command line' },
  });
  t.equal(run.status, 'finished');
  t.strictSame(
    run.models.map(({ model }) => model),
    ['M0', 'M1', 'M2', 'M3'],
  );
  t.match(run.verdict, /^Finished: 2 iterations\. M3 answers 60 % right, M1 40 % \(sampled, task\): better,/);

  const [first, second] = run.iterations as [ReportRun['iterations'][0], ReportRun['iterations'][0]];
  t.equal(first.chance?.deviation.toFixed(3), '0.491', 'N = 4');
  t.strictSame(first.tau?.counts, [1, 0, 0, 0, 0, 1, 0], 'seven values of tau at N = 4: -1, -2/3, ..., 1');
  t.equal(first.lengths?.meanChosen, 3, 'one');
  t.equal(first.lengths?.meanRejected, 4, 'four');
  t.equal(first.lengths?.chosenLonger, 0);
  t.equal(second.duplicates, 0.5, 'two of four repeat another');
  t.equal(second.tiedGroups, 0, 'equal responses are no tie');
  t.equal(first.tiedGroups, 1 / 3, 'different responses with equal rewards are one');
  const [a, , c] = first.groups as [ReportRun['iterations'][0]['groups'][0], unknown, { dropped?: string }];
  t.match(a, { id: 'a', prompt: [{ text: 'question a' }], label: 'one', weight: (2 / 3 + 1) / 2 });
  t.strictSame(
    a.responses.map(({ role, correct, reward, previousReward }) => [role, correct, reward, previousReward]),
    [
      ['chosen', true, 4, 4],
      [undefined, false, 3, 3],
      [undefined, false, 2, 1],
      ['rejected', false, 1, 2],
    ],
  );
  t.equal(c.dropped, 'policy-constant');

  t.equal(run.steps.rows, 5);
  t.strictSame(
    run.steps.streams.map(({ name, start, rows }) => [name, start, rows]),
    [
      ['sft', 0, 1],
      ['iteration-1/train', 1, 2],
      ['iteration-2/train', 3, 2],
    ],
  );
  const loss = new Float32Array(new Uint8Array(Buffer.from(run.steps.series['loss']!, 'base64')).buffer);
  t.strictSame(
    [...loss].map((value) => (Number.isNaN(value) ? null : Number(value.toFixed(2)))),
    [0.69, 0.69, 0.5, 0.69, null],
  );

  const setting = (name: string) => run.settings.find((row) => row.name === name);
  t.strictSame(setting('iterations'), { name: 'iterations', value: '2', origin: 'run.yaml:3' });
  t.match(setting('sampling.n'), { value: '4', origin: 'command line', standard: '5' });
  t.match(setting('sampling.topP'), { value: '0.95', origin: 'default' });
  t.match(setting('model'), { value: '/models/base', origin: 'not recorded' });
  t.match(run.inputs, [{ name: 'data.prompts', sha256: /^[0-9a-f]{64}$/ }]);
  t.ok(
    run.outputs.some(({ stage, name }) => stage === 'iteration-1/rank' && name === 'iteration-1/pairs.jsonl'),
  );
  t.strictSame(run.faults, []);
});

t.test('the null band of five responses is 0.408', async (t) => {
  const five = group('a', {
    texts: ['a', 'b', 'c', 'd', 'e'],
    rewards: [5, 4, 3, 2, 1],
    previousRewards: [1, 2, 3, 4, 5],
    tau: -1,
  });
  const run = await read({ iterations: [[five]] });
  t.equal(run.iterations[0]?.chance?.deviation.toFixed(3), '0.408');
  t.equal(run.iterations[0]?.tau?.counts.length, 11);
});

t.test('every state of a run gives a report that says so', async (t) => {
  const failed = await read({
    last: { status: 'failed', code: 'NO_PAIRS', message: 'iteration 1: none of 3 groups made a pair' },
  });
  t.equal(failed.status, 'failed');
  t.match(
    failed.verdict,
    /^Failed, 0 of 1 iteration done: iteration 1: none of 3 groups made a pair \[NO_PAIRS\]/,
  );

  const interrupted = await read({
    last: { status: 'interrupted', code: 'ABORTED', message: 'interrupted' },
  });
  t.match(interrupted.verdict, /^Interrupted, .*the same command continues it/);

  const stopped = await read({ last: undefined, iterations: [[group('a')]] });
  t.equal(stopped.status, 'stopped', 'no word, and no lock');
  t.match(stopped.verdict, /at sample 1 M1, .*no process works on it/);

  const folder = join(root, 'running');
  makeRun({ folder, last: undefined });
  writeFileSync(
    join(folder, 'lock.1'),
    JSON.stringify({ pid: process.pid, startTime: null, host: 'elsewhere' }),
  );
  writeFileSync(
    join(folder, 'progress.json'),
    JSON.stringify({ stage: 'sample', iteration: 1, done: 3, total: 9, unit: 'prompts', time: '' }),
  );
  const running = await readRun(folder, { shown: 0 });
  t.equal(running.status, 'running');
  t.match(running.progress, { done: 3, total: 9 });
  t.match(running.verdict, /^Running at sample of iteration 1, 0 of 1 iteration done\. No held-out task/);

  const empty = join(root, 'empty');
  mkdirSync(empty);
  writeFileSync(join(empty, 'run.json'), '{}');
  const nothing = await readRun(empty, { shown: 100 });
  t.equal(nothing.status, 'stopped');
  t.ok(nothing.lights.every(({ level }) => level === 'unknown' || level === 'good'));
  await t.rejects(readRun(root, { shown: 1 }), { code: 'INVALID_ARGUMENT', message: /holds no run/ });

  const sftOnly = await read({ config: { iterations: 0, data: { sft: '/data/sft.jsonl' } } });
  t.match(sftOnly.verdict, /supervised fine-tuning alone/);
});

t.test('the timeline tells of interruptions and kills', async (t) => {
  const sampling = { type: 'stage', stage: 'sample', iteration: 1, model: 'M1' };
  const { timeline } = await read({
    events: [
      { ...sampling, status: 'started' },
      { type: 'run', status: 'interrupted' },
      { type: 'run', status: 'resumed' },
      { ...sampling, status: 'started' },
      { type: 'warning', code: 'x', message: 'y' },
      { type: 'run', status: 'resumed' }, // the process before it was killed
      { ...sampling, status: 'started' },
      { ...sampling, status: 'finished' },
    ],
  });
  const stages = timeline.filter(({ isMark }) => !isMark).slice(1);
  t.strictSame(
    stages.map(({ label, start, end, isCut }) => [label, end! - start, isCut]),
    [
      ['sample 1 M1', 1000, true],
      ['sample 1 M1', 1000, true],
      ['sample 1 M1', 1000, undefined],
    ],
  );
});

t.test('a damaged folder gives a report that names what could not be read', async (t) => {
  const folder = makeRun({
    folder: join(root, 'damaged'),
    iterations: [[group('a')]],
    steps: train(1, [{}]),
  });
  writeFileSync(join(folder, 'manifest.json'), '{"stages": [');
  writeFileSync(
    join(folder, 'metrics.jsonl'),
    '{"stream":"sft","step":1,"loss":1}\nnot json\n[1]\n{"stream":"sf',
  );
  const run = await readRun(folder, { shown: 100 });
  t.strictSame(run.faults, ['manifest.json is not JSON', 'metrics.jsonl: 2 lines hold no step']);
  t.equal(run.steps.rows, 1, 'a line that is being written is left out');

  // Shapes that this package never writes, as a hostile folder may have them.
  writeFileSync(
    join(folder, 'run.json'),
    JSON.stringify({ config: { iterations: 1e9, model: 7, beta: 'x' } }),
  );
  writeFileSync(
    join(folder, 'manifest.json'),
    JSON.stringify({
      stages: [7, { key: 'iteration-1/rank', record: { result: { consistency: 'x' }, files: 3 } }],
    }),
  );
  const hostile = await readRun(folder, { shown: 100 });
  t.equal(hostile.iterations.length, 1);
  t.type(await renderPage({ generated: '', version: '', runs: [hostile] }), 'string');
  rmSync(join(folder, 'run.json'));
  await t.rejects(readRun(folder, { shown: 1 }), { code: 'INVALID_ARGUMENT' });
});

t.test('of many groups an even choice is shown, the same every time and in any order', async (t) => {
  const groups = Array.from({ length: 60 }, (_, i) => group(`g${i}`));
  const shown = async (all: typeof groups) => {
    made += 1;
    const folder = makeRun({ folder: join(root, `run-${made}`), iterations: [all] });
    return (await readRun(folder, { shown: 7 })).iterations[0]!;
  };
  const [forward, backward] = [await shown(groups), await shown(groups.toReversed())];
  t.equal(forward.totalGroups, 60);
  t.equal(forward.groups.length, 7);
  const ids = (iteration: typeof forward) => iteration.groups.map(({ id }) => id).toSorted();
  t.strictSame(ids(forward), ids(backward));
});

t.test('lights: what each is lit by', async (t) => {
  const calm = train(
    1,
    Array.from({ length: 20 }, () => ({})),
  );
  const run = (steps: object[], more: Omit<MadeRun, 'folder'> = {}) =>
    read({ iterations: [[group('a')]], steps, ...more });

  t.equal(light(await run(calm), 'finite').level, 'good');
  t.match(light(await run([...calm, step('iteration-1/train', 21, { loss: null })]), 'finite'), {
    level: 'watch',
    value: '1 of 21 steps skipped',
  });
  const diverged = { last: { status: 'failed', code: 'DIVERGED', message: 'x' } };
  t.equal(light(await run(calm, diverged), 'finite').level, 'bad');

  t.equal(light(await run(calm), 'spikes').level, 'good');
  const spiky = calm.map((row, i) => ({ ...row, grad_norm: i === 10 ? 11 : 1 }));
  t.match(light(await run(spiky), 'spikes'), { level: 'watch', value: '1 of 20 steps' });

  // beta 0.1, three tokens: -0.006 is -0.02 nats per token, -0.06 is -0.2.
  t.equal(light(await run(calm), 'chosen').level, 'good');
  const falling = (chosen: number) => calm.map((row) => ({ ...row, 'rewards/chosen': chosen }));
  t.equal(light(await run(falling(-0.006)), 'chosen').level, 'watch');
  t.match(light(await run(falling(-0.06)), 'chosen'), { level: 'bad', value: '−0.200 nats per token' });

  const pushed = (rejected: number) => calm.map((row) => ({ ...row, 'rewards/rejected': rejected }));
  const { meanRejected } = (await run(calm)).iterations[0]!.lengths!;
  const threshold = -0.045 * 0.1 * meanRejected;
  t.equal(light(await run(pushed(0.9 * threshold)), 'rejected').level, 'good');
  t.equal(light(await run(pushed(1.1 * threshold)), 'rejected').level, 'watch');
  t.match(light(await run(pushed(10 * threshold)), 'rejected'), {
    level: 'watch',
    value: '−0.450 nats per token',
  });

  const margin = (value: number) => calm.map((row) => ({ ...row, 'rewards/margins': value }));
  t.equal(light(await run(margin(2.9)), 'saturation').level, 'good');
  t.equal(light(await run(margin(3.1)), 'saturation').level, 'watch');
  t.equal(light(await run(margin(6.5)), 'saturation').level, 'bad');
  const hinge = { config: { train: { loss: 'hinge' } } };
  t.equal(light(await run(margin(6.5), hinge), 'saturation').level, 'unknown');

  const like = (taus: number[]) => ({ iterations: [taus.map((tau, i) => group(`g${i}`, { tau }))] });
  t.equal(light(await read(like(new Array<number>(50).fill(0.9))), 'consistency').level, 'good');
  t.equal(light(await read(like(new Array<number>(50).fill(0.1))), 'consistency').level, 'watch');
  t.equal(
    light(await read(like([0.9, -0.1])), 'below-half').level,
    'good',
    'the mean counts for the data set',
  );
  t.equal(light(await read(like([0.1, -0.9])), 'below-half').level, 'bad');
  const sample = { config: { consistency: { weight: 'sample' } } };
  t.equal(light(await read({ ...like([0.9, 0.9, 0.9, 0.9, -0.1]), ...sample }), 'below-half').level, 'watch');
  t.equal(light(await read({ ...like([0.9, -0.1]), ...sample }), 'below-half').level, 'bad');
  const srlm = { config: { consistency: { weight: 'one' } } };
  t.match(light(await read({ ...like([-1]), ...srlm }), 'below-half'), { level: 'good', value: /not used/ });

  const two = { iterations: [[group('a')], [group('b')]] };
  const noisy = (...found: [noise: number | null, repeatTau: number | null][]) =>
    read({
      ...two,
      scores: found.map(([noise, repeatTau]) => ({
        rewardNoise: { spread: 2, noise, repeatTau, groups: 32 },
        policyFrom: 'generation',
      })),
    });
  t.match(light(await noisy([0.0001, 1]), 'noise'), { level: 'good', value: '< 0.1 % of the spread' });
  t.match(light(await noisy([0.02, 0.99], [0.3, 0.86]), 'noise'), {
    level: 'watch',
    value: '1.0 % → 15 % of the spread',
  });
  t.match(
    light(await noisy([1, 0.54], [0.02, 0.99]), 'noise'),
    { level: 'bad' },
    'an earlier iteration counts',
  );
  t.match(light(await noisy([null, null]), 'noise'), { level: 'unknown', value: 'not measured' });
  t.match(light(await read({ ...two, scores: [{ rewardNoise: 7 }] }), 'noise'), { level: 'unknown' });

  t.match(light(await read(two), 'correlation'), { level: 'good', value: 'r 0.50 → 0.25' });
  const three = { iterations: [[group('a')], [group('b')], [group('c')]] };
  t.equal(light(await read(three), 'correlation').level, 'bad', 'a third of what it was');
  const unlabelled = [group('a')].map(({ correct: _, label: __, ...rest }) => rest);
  t.match(light(await read({ iterations: [unlabelled] }), 'ranking'), {
    level: 'unknown',
    value: 'no labels',
  });

  const long = group('b', { texts: ['x'.repeat(9), 'yy'.repeat(5), 'z'.repeat(11), 'w'.repeat(12)] });
  t.equal(light(await read({ iterations: [[group('a')], [long]] }), 'length').level, 'bad');
  const equal = group('a', { texts: ['a', 'a', 'a', 'a'], rewards: [1, 1, 1, 1], tau: null });
  t.equal(light(await read({ iterations: [[equal, group('b')]] }), 'duplicates').level, 'good');
  t.equal(light(await read({ iterations: [[equal]] }), 'duplicates').level, 'watch');
  t.equal(light(await read({ iterations: [[equal, group('b')]] }), 'ties').level, 'good');
  t.equal(light(await read({ iterations: [[group('a', { rewards: [2, 2, 1, 1] })]] }), 'ties').level, 'bad');
  t.equal(light(await read({ iterations: [[group('a', { truncated: true })]] }), 'truncation').level, 'bad');
  t.equal(light(await read({ iterations: [[equal, group('b')]] }), 'pairs').level, 'watch');

  const held = async (accuracies: number[]) =>
    light(await read({ iterations: [[group('a')], [group('b')]], accuracies }), 'accuracy').level;
  t.equal(await held([0.3, 0.4, 0.5, 0.6]), 'good');
  t.equal(await held([0.3, 0.4, 0.5, 0.41]), 'watch', 'an earlier one was better');
  t.equal(await held([0.3, 0.4, 0.5, 0.2]), 'bad');

  const timing =
    'time,stream,step,global_step,system/memory_share\n2026-01-01T00:00:00Z,iteration-1/train,1,1,0.97\n';
  t.match(light(await run(calm, { timing }), 'memory'), { level: 'bad', value: '97 % at most' });
});

t.test('a spike is ten times the median of the fifty steps before, of the same training', async (t) => {
  const norms = Float32Array.from([1, 1, 1, 1, 1, 9, 11, 1, Number.NaN, 100, 100, 100, 100]);
  const table = {
    rows: norms.length,
    columns: new Map([['grad_norm', norms]]),
    faulty: 0,
    streams: [
      { name: 'sft', start: 0, rows: 9 },
      { name: 'iteration-1/train', start: 9, rows: 4 },
    ],
  };
  t.equal(gradientSpikes(table), 1);
});

t.test('several tasks give one number with an interval; runs are compared by it', async (t) => {
  const model = (name: string, ...accuracies: number[]) =>
    ({
      model: name,
      directory: '',
      tasks: accuracies.map((accuracy, i) => {
        const greedy = { correct: 0, total: 400, accuracy, interval: [accuracy - 0.05, accuracy + 0.05] };
        return { name: `task-${i}`, greedy: { ...greedy, unparsable: 0, truncated: 0 } };
      }),
    }) as ReportRun['models'][0];
  const found = outcomeOf([model('M0', 0.5, 0.7), model('M1', 0.2, 0.3)])!;
  t.equal(found.kind, 'greedy');
  t.equal(found.scores[0]!.accuracy.toFixed(6), '0.600000');
  const half = (1.96 * Math.sqrt((0.5 * 0.5 + 0.7 * 0.3) / 400)) / 2;
  t.ok(Math.abs(found.scores[0]!.interval[1] - 0.6 - half) < 1e-12);
  t.equal(compareScores(found.scores[0]!, found.scores[1]!), 'better');
  t.equal(outcomeOf([model('M0')]), undefined);

  const runs = [
    { name: 'a', models: [model('M0', 0.5)] },
    { name: 'b', models: [model('M0', 0.8)] },
  ];
  t.equal(
    comparisonOf(runs),
    'Last models: b 80 %, a 50 %. b is better than the next one: the 95 % intervals do not overlap.',
  );
  t.match(comparisonOf([runs[0]!, { name: 'c', models: [model('M0', 0.51)] }]), /not told apart/);
  t.match(comparisonOf([runs[0]!, { name: 'c', models: [model('M0', 0.5, 0.5)] }]), /different tasks/);
  t.equal(comparisonOf([runs[0]!]), '');
});

t.test('runs of the same name are told apart', async (t) => {
  const folders = ['x', 'y', 'z'].map((name) => makeRun({ folder: join(root, name, 'same') }));
  const { runs } = await readReport(folders, { shown: 0 });
  t.strictSame(
    runs.map(({ name }) => name),
    ['same', 'same (2)', 'same (3)'],
  );
});

t.test('the correlation of the reward with correctness is within groups', async (t) => {
  const groups = [
    { id: 'easy', rewards: [12, 10, 11] },
    { id: 'hard', rewards: [2, 0, 1] },
    { id: 'all', rewards: [100, 0] },
  ];
  const right = new Map([
    ['easy', [true, false, false]],
    ['hard', [true, false, false]],
    ['all', [true, true]],
  ]);
  // Each group: rewards 1, -1, 0 against 2/3, -1/3, -1/3: product 1, squares 2 and 2/3.
  t.equal(rewardCorrelation(groups, right)?.toFixed(9), (1 / Math.sqrt(4 / 3)).toFixed(9));
  t.equal(rewardCorrelation(groups, new Map()), null);
});

t.test('histograms: a value on a centre is in its bin, whatever the rounding', async (t) => {
  for (const n of [3, 4, 5, 6]) {
    const pairs = (n * (n - 1)) / 2;
    const values = Array.from({ length: pairs + 1 }, (_, i) => (2 * i) / pairs - 1);
    t.strictSame(histogram(values, tauEdges('kendall', n)).counts, new Array(pairs + 1).fill(1), `N = ${n}`);
  }
  t.strictSame(histogram([0, 1, 1], tauEdges('topOrder', 5)).counts, [1, 2]);
  t.equal(tauEdges('kendall', 32).length, 22);
  const edges = lengthEdges([3, 3, 500]);
  t.ok(edges.length <= 25 && edges[0]! <= 3 && edges.at(-1)! >= 500);
  t.strictSame(histogram([9, 9], lengthEdges([9, 9])).counts, [0, 0, 0, 2, 0, 0, 0]);
  t.strictSame(lengthEdges([0]), [0, 1]);
});

t.test('data and names cannot leave their place in the page', async (t) => {
  const nasty = '</script><!--<img src=x onerror=alert(1)>\u2028\u2029';
  const json = scriptJson({ nasty });
  t.notMatch(json, /[<>\u2028\u2029]/);
  t.strictSame(JSON.parse(json), { nasty });
  t.equal(escapeHtml(`<a b="c">'&`), '&lt;a b=&quot;c&quot;&gt;&#39;&amp;');
  const run = await read({ iterations: [[group('a', { texts: [nasty, 'b', 'c', 'd'] })]] });
  const page = await renderPage({ generated: '', version: '', runs: [{ ...run, name: nasty }] });
  t.equal(page.match(/<\/script>/g)?.length, 2, 'the data block and the script');
  t.notMatch(page, '<img');
  t.match(page, /Content-Security-Policy" content="default-src 'none'; script-src 'sha256-/);
  t.notMatch(page, /(?:src|href)\s*=\s*["']?(?:https?:)?\/\//, 'nothing is fetched');
});

t.test('the modules of the page join to one script', async (t) => {
  const joined = joinModules([
    "import {\n  a,\n} from './b.js';\nexport const c = 1;\n",
    'export function start() {}\n',
  ]);
  t.equal(joined, "'use strict';\n(() => {\nconst c = 1;\n\nfunction start() {}\n\nstart();\n})();");
});
