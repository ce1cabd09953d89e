// The README's tables of speed on a GPU, from a file of results: node bench/cuda/run.mjs --readme FILE.
import { sizes, SHAPES } from './shapes.mjs';

const count = (number) => (number >= 1000 ? Math.round(number).toLocaleString('en') : number.toPrecision(3));
const percent = (share) => `${(100 * share).toFixed(0)} %`;

/** Rows of the table: what is said of the work, and numbers beside the value. */
const ROWS = [
  ['decode-8b', (work) => `8B, ${work.live} responses at once`],
  ['decode-8b-510', (work) => `8B, ${work.live} at once`],
  ['stream-8b', () => '8B, lengths as they come, defaults of a run'],
  ['decode-8b-single', () => '8B, one response'],
  ['decode-1.2b', (work) => `1.2B, ${work.live} at once`],
  ['decode-0.5b', (work) => `0.5B, ${work.live} at once`],
  ['score-8b', () => '8B, log-probs of responses, five to a prompt'],
  ['train-8b', () => '8B, preference step, all weights'],
  ['lora-8b', () => '8B, preference step, LoRA of rank 32'],
  ['train-1.2b', () => '1.2B, preference step, all weights'],
  ['iteration-8b', (work) => `8B, an iteration of ${count(work.of)} prompts`],
];
const PEERS = [
  ['peer-generate-8b', 'generate'],
  ['peer-continuous-8b', 'generate_batch'],
  ['peer-score-8b', 'log-probs'],
  ['peer-train-8b', 'DPO step'],
  ['peer-trl-8b', "TRL's DPOTrainer"],
];
const NAMES = {
  'decode-': 'generate',
  'stream-': 'generate',
  'score-': 'score',
  'train-': 'train',
  'lora-': 'train',
};
const verb = (name) => Object.entries(NAMES).find(([prefix]) => name.startsWith(prefix))?.[1] ?? 'all';

function ours([name, say], row) {
  const { extra = {} } = row;
  const more = [extra.tokensPerSecond, extra.pairsPerSecond].map((rate, i) =>
    rate === undefined ? undefined : `${count(rate)} ${i === 0 ? 'tok/s' : 'pairs/s'}`,
  );
  const value = [...more, `${count(row.value)} ${row.unit}`].filter(Boolean).join(', ');
  const share = row.floor ? percent(row.isLess ? row.floor / row.value : row.value / row.floor) : '';
  const peak = row.peakBytes ? `${(row.peakBytes / 1e9).toFixed(1)} GB` : '';
  return `| ${verb(name)} | ${say(row.work ?? {})} | ${value} | ${share} | ${peak} |`;
}

function theirs(job, row) {
  const ratio = row.ratio === undefined ? '' : `${row.ratio.toFixed(2)}×`;
  const how = [`batch ${row.batch}`, row.attention].filter(Boolean).join(', ');
  return `| ${job} | ${count(row.value)} ${row.unit} | ${ratio} | ${how} |`;
}

export function readmeTables({ date, commit, gpu, ceilings, versions, rows }) {
  const found = (list) => list.filter(([name]) => rows[name]?.value !== undefined);
  const peers = found(PEERS);
  const { torch, transformers } = peers.map(([name]) => rows[name].versions).at(0) ?? {};
  const limits =
    `${count(ceilings.flops / 1e12)} TFLOP/s and ${count(ceilings.bandwidth / 1e12)} TB/s` +
    (ceilings.isMeasured ? ', sustained in the same run' : ', which were not measured in this run');
  const billions = (sizes(SHAPES['8b']).parameters / 1e9).toFixed(1);
  return [
    `${date.slice(0, 10)}, one ${gpu.name}, driver ${versions.driver}, LibTorch ${versions.libtorch}, commit ${commit}; bfloat16,`,
    `random weights (8B: ${billions} billion). Limits by operations and bytes at ${limits}.`,
    '',
    '| | work | measured | of the limit | peak memory |',
    '|---|---|---|---|---|',
    ...found(ROWS).map((row) => ours(row, rows[row[0]])),
    ...(peers.length === 0
      ? []
      : [
          '',
          `| transformers ${transformers}, PyTorch ${torch} | measured | ours | how |`,
          '|---|---|---|---|',
          ...peers.map(([name, job]) => theirs(job, rows[name])),
        ]),
  ].join('\n');
}
